# What `cmake --install` and `cpack -G DEB` put where:
#   bin/pastur
#   lib/pastur/              shared libraries of a bundle (tools/dev.sh bundle); otherwise absent
#   share/pastur/            recipes, designs of studies, batch scripts, module files
#   share/man/               manual pages, which the program writes
#   share/bash-completion/completions/pastur, share/zsh/site-functions/_pastur, share/fish/vendor_completions.d/pastur.fish
#   share/doc/pastur/        licence and README
include(GNUInstallDirs)

# Manual pages and completion scripts come from the program's own tables, so the program writes them.
set(manual_folder ${CMAKE_BINARY_DIR}/manual)
add_custom_command(OUTPUT ${manual_folder}/stamp
  COMMAND ${CMAKE_COMMAND} -DPROGRAM=$<TARGET_FILE:pastur> -DFOLDER=${manual_folder}
          -P ${CMAKE_SOURCE_DIR}/tools/cmake/PasturManual.cmake
  DEPENDS pastur ${CMAKE_SOURCE_DIR}/tools/cmake/PasturManual.cmake VERBATIM)
add_custom_target(manual DEPENDS ${manual_folder}/stamp)
# An installation builds what it installs, and no test.
set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY TRUE)
install(CODE "execute_process(COMMAND \"${CMAKE_COMMAND}\" --build \"${CMAKE_BINARY_DIR}\" --target manual
                              COMMAND_ERROR_IS_FATAL ANY OUTPUT_QUIET)")

# The program finds libraries of a bundle next to it, and those of the CUDA toolkit and MPI where they were at build time.
set_target_properties(pastur PROPERTIES
  INSTALL_RPATH "\$ORIGIN/../lib/pastur"
  INSTALL_RPATH_USE_LINK_PATH TRUE)
install(TARGETS pastur RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY tools/recipes tools/study tools/slurm DESTINATION ${CMAKE_INSTALL_DATADIR}/pastur
        USE_SOURCE_PERMISSIONS)
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(module_folder ${CMAKE_BINARY_DIR}/modulefiles)
configure_file(tools/install/modulefile.lua ${module_folder}/${PROJECT_VERSION}.lua @ONLY)
configure_file(tools/install/modulefile.tcl ${module_folder}/${PROJECT_VERSION} @ONLY)
install(DIRECTORY ${module_folder}/ DESTINATION ${CMAKE_INSTALL_DATADIR}/pastur/modulefiles/pastur)

install(DIRECTORY ${manual_folder}/man1 ${manual_folder}/man5 DESTINATION ${CMAKE_INSTALL_MANDIR})
install(FILES ${manual_folder}/pastur.bash RENAME pastur
        DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(FILES ${manual_folder}/_pastur DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
install(FILES ${manual_folder}/pastur.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME pastur)
set(CPACK_PACKAGE_VENDOR "Pastur")
set(CPACK_PACKAGE_CONTACT "Pastur maintainers <maintainers@pastur.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_RESOURCE_FILE_LICENSE ${CMAKE_SOURCE_DIR}/LICENSE)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES TRUE)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)  # the packages of the libraries that the program loads
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS openmpi-bin)
if(NOT PASTUR_WITH_MPI)
  set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "")
endif()
include(CPack)
