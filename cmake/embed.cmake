# Files as C arrays: cmake -DOUTPUT=FILE.c -DNAMES=a,b -DFILES=path;path -P embed.cmake
set(text "/* Made by cmake/embed.cmake. */\n#include \"bench/report/report_assets.h\"\n\n")
string(REPLACE "," ";" NAMES "${NAMES}")
foreach(name file IN ZIP_LISTS NAMES FILES)
  file(READ ${file} bytes HEX)
  string(REGEX REPLACE "(................................)" "\\1\n" bytes "${bytes}")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  string(APPEND text "static const unsigned char bytes_${name}[] = {\n${bytes}};\n"
                     "const qr_asset qr_asset_${name} = {bytes_${name}, sizeof bytes_${name}};\n\n")
endforeach()
file(WRITE ${OUTPUT} "${text}")
