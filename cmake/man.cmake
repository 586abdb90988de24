# quire(1) and quire.toml(5), whose list of keys comes from the tool; the completion of bash.
install(FILES cli/completion/quire.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME quire)

find_program(SCDOC scdoc DOC "makes the manual pages")
if(NOT SCDOC OR CMAKE_CROSSCOMPILING)
  message(STATUS "manual pages: not built (scdoc is not there)")
  add_custom_target(man) # what `make install` asks for
  return()
endif()
set(man ${CMAKE_CURRENT_BINARY_DIR}/man)
file(MAKE_DIRECTORY ${man})
set(man_sources ${CMAKE_CURRENT_SOURCE_DIR}/docs/man)
add_custom_command(OUTPUT ${man}/quire.1 DEPENDS ${man_sources}/quire.1.scd
  COMMAND sh -c "'${SCDOC}' < '${man_sources}/quire.1.scd' > '${man}/quire.1'" VERBATIM)
add_custom_command(OUTPUT ${man}/quire.toml.5 DEPENDS ${man_sources}/quire.toml.5.scd quire
  COMMAND sh -c "{ cat '${man_sources}/quire.toml.5.scd'; '$<TARGET_FILE:quire>' config scdoc; } > '${man}/quire.toml.5.scd' && '${SCDOC}' < '${man}/quire.toml.5.scd' > '${man}/quire.toml.5'"
  VERBATIM)
add_custom_target(man ALL DEPENDS ${man}/quire.1 ${man}/quire.toml.5)
install(FILES ${man}/quire.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${man}/quire.toml.5 DESTINATION ${CMAKE_INSTALL_MANDIR}/man5)
