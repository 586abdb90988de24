# The two libraries that are installed. Both show quire_* and nothing else: no internal functions, no C++ templates, whose
# weak symbols would else be shared with a program's own copies.

# A unique symbol stays one whatever a map or objcopy says; none is needed here.
target_compile_options(quire_objects PRIVATE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fno-gnu-unique>)

# Minor releases may break the interface before 1.0, so the soname has the minor number.
add_library(quire_shared SHARED $<TARGET_OBJECTS:quire_objects>)
set(symbol_map ${CMAKE_CURRENT_LIST_DIR}/quire.map)
target_link_options(quire_shared PRIVATE LINKER:--version-script=${symbol_map})
set_target_properties(quire_shared PROPERTIES EXPORT_NAME quire LINK_DEPENDS ${symbol_map} VERSION ${PROJECT_VERSION}
                      SOVERSION ${version_major}.${version_minor})

# An archive cannot hide what one of its objects needs of another, so it gets one object with the rest made local.
# GNU's tools do that, whatever the compiler's own linker is.
find_program(QUIRE_LD NAMES ld.bfd ld REQUIRED DOC "GNU ld")
find_program(QUIRE_OBJCOPY NAMES objcopy REQUIRED DOC "GNU objcopy")
set(static_object ${CMAKE_CURRENT_BINARY_DIR}/quire_static.o)
add_custom_command(
  OUTPUT ${static_object}
  COMMAND ${QUIRE_LD} -r --force-group-allocation -o ${static_object} $<TARGET_OBJECTS:quire_objects>
  COMMAND ${QUIRE_OBJCOPY} --wildcard --keep-global-symbol=quire_* ${static_object}
  DEPENDS quire_objects $<TARGET_OBJECTS:quire_objects>
  COMMAND_EXPAND_LISTS VERBATIM)
add_library(quire_static STATIC ${static_object})
set_target_properties(quire_static PROPERTIES EXPORT_NAME static)

foreach(library quire_static quire_shared)
  set_target_properties(${library} PROPERTIES OUTPUT_NAME quire LINKER_LANGUAGE CXX)
  target_link_libraries(${library} PRIVATE quire_requirements)
  target_include_directories(${library} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                             $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
endforeach()
