# Installation: headers, both libraries, the tool, a pkg-config file and a CMake package (quire::quire, quire::static).
install(DIRECTORY include/quire TYPE INCLUDE)
install(TARGETS quire_shared EXPORT quire_targets)
install(TARGETS quire_static quire_requirements EXPORT quire_static_targets)
if(TARGET quire)
  install(TARGETS quire)
endif()
if(TARGET quire_mpi) # found by pkg-config: a CMake package would have to find MPI for whoever does not want it
  install(FILES mpi/include/quire/mpi.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/quire)
  install(TARGETS quire_mpi)
endif()
foreach(targets quire_targets quire_static_targets)
  install(EXPORT ${targets} NAMESPACE quire:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/quire)
endforeach()
configure_package_config_file(cmake/quire-config.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/quire-config.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/quire)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/quire-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/quire-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/quire-config-version.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/quire)
# Relative, so that `cmake --install --prefix` may choose another place than the configured one.
file(RELATIVE_PATH pc_to_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/quire.pc.in ${CMAKE_CURRENT_BINARY_DIR}/quire.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/quire.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
if(TARGET quire_mpi)
  string(REPLACE ";" " -I" mpi_includes "-I${MPI_C_INCLUDE_DIRS}")
  string(REPLACE ";" " " mpi_libraries "${MPI_C_LIBRARIES}")
  configure_file(cmake/quire_mpi.pc.in ${CMAKE_CURRENT_BINARY_DIR}/quire_mpi.pc @ONLY)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/quire_mpi.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endif()
