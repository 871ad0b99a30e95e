-- Lmod module of Pastur @PROJECT_VERSION@. It lies in share/pastur/modulefiles/pastur/ of the installed tree and finds
-- the program from there: `module use PREFIX/share/pastur/modulefiles`, then `module load pastur`.
help([[Pastur pretrains transformers with latent attention and measures their query-key spectra.
Try `pastur help`, `man pastur` and `pastur doctor`.]])
whatis("Name: pastur")
whatis("Version: @PROJECT_VERSION@")
whatis("Description: @PROJECT_DESCRIPTION@")
conflict("pastur")
local prefix = myFileName():gsub("/share/pastur/modulefiles/pastur/[^/]*$", "")
-- man(1) finds share/man next to a bin on PATH.
prepend_path("PATH", pathJoin(prefix, "@CMAKE_INSTALL_BINDIR@"))
setenv("PASTUR", pathJoin(prefix, "@CMAKE_INSTALL_BINDIR@", "pastur"))
