# Writes OUTPUT, a C file with the revision of SOURCE: the commit, "-dirty" behind it when tracked files differ, "unknown"
# outside a git tree of its own. The file is only touched when that changes.
set(revision unknown)
execute_process(COMMAND git -C ${SOURCE} rev-parse --show-toplevel OUTPUT_VARIABLE top OUTPUT_STRIP_TRAILING_WHITESPACE
                ERROR_QUIET RESULT_VARIABLE failed)
file(REAL_PATH "${SOURCE}" source)
if(NOT failed AND top STREQUAL source)
  execute_process(COMMAND git -C ${SOURCE} rev-parse --short=12 HEAD OUTPUT_VARIABLE commit
                  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  execute_process(COMMAND git -C ${SOURCE} --no-optional-locks status --porcelain --untracked-files=no
                  OUTPUT_VARIABLE changes ERROR_QUIET)
  if(NOT failed)
    set(revision ${commit})
    if(changes)
      string(APPEND revision -dirty)
    endif()
  endif()
endif()
set(text "/* Written by cmake/revision.cmake. */\nextern const char *const qr_tool_revision;\nconst char *const        qr_tool_revision = \"${revision}\";\n")
set(before "")
if(EXISTS ${OUTPUT})
  file(READ ${OUTPUT} before)
endif()
if(NOT before STREQUAL text)
  file(WRITE ${OUTPUT} "${text}")
endif()
