#%Module1.0
# Environment module of Pastur @PROJECT_VERSION@, for Environment Modules (Tcl) and Lmod. It lies in
# share/pastur/modulefiles/pastur/ of the installed tree and finds the program from there:
# `module use PREFIX/share/pastur/modulefiles`, then `module load pastur`.
proc ModulesHelp {} {
    puts stderr "Pastur pretrains transformers with latent attention and measures their query-key spectra."
    puts stderr "Try `pastur help`, `man pastur` and `pastur doctor`."
}
module-whatis "Pastur @PROJECT_VERSION@: @PROJECT_DESCRIPTION@"
conflict pastur
set prefix $ModulesCurrentModulefile
for {set level 0} {$level < 5} {incr level} { set prefix [file dirname $prefix] }
# man(1) finds share/man next to a bin on PATH.
prepend-path PATH [file join $prefix @CMAKE_INSTALL_BINDIR@]
setenv PASTUR [file join $prefix @CMAKE_INSTALL_BINDIR@ pastur]
