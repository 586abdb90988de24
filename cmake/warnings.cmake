# Warnings and sanitizers for one target.
function(quire_warnings target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wshadow -Wconversion -Wvla -ffp-contract=off
    $<$<COMPILE_LANGUAGE:C>:-Wpedantic -Wmissing-prototypes -Wstrict-prototypes>)
  if(QUIRE_WERROR AND NOT QUIRE_SANITIZE) # gcc's flow warnings see ghosts in instrumented code
    target_compile_options(${target} PRIVATE -Werror)
  endif()
  if(QUIRE_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${QUIRE_SANITIZE} -fno-omit-frame-pointer)
    if(NOT QUIRE_SANITIZE STREQUAL "thread")
      target_compile_options(${target} PRIVATE -fno-sanitize-recover=all)
    endif()
    target_link_options(${target} PUBLIC -fsanitize=${QUIRE_SANITIZE})
  endif()
endfunction()
