# Turns files into a C++ source, so the program carries them and needs no other file. The header declares TYPE, with
# the members name and text, and FUNCTION, which returns a span of it.
#   cmake -DFILES=a.js,b.css -DHEADER=a/b.h -DTYPE=Asset -DFUNCTION=assets -DOUTPUT=assets.cpp -P PasturAssets.cmake
string(REPLACE "," ";" FILES "${FILES}")
set(entries "")
set(index 0)
foreach(path IN LISTS FILES)
  get_filename_component(name ${path} NAME)
  file(READ ${path} text)
  string(FIND "${text}" ")PASTUR\"" clash)
  if(NOT clash EQUAL -1)
    message(FATAL_ERROR "remove )PASTUR\" from ${path}: it ends the raw string that holds the file")
  endif()
  string(APPEND source "constexpr std::string_view kText${index} = R\"PASTUR(${text})PASTUR\";\n")
  string(APPEND entries "    {\"${name}\", kText${index}},\n")
  math(EXPR index "${index} + 1")
endforeach()
file(WRITE ${OUTPUT} "// Written by tools/cmake/PasturAssets.cmake.
#include \"${HEADER}\"

namespace pastur {
namespace {
${source}constexpr ${TYPE} kAssets[] = {
${entries}};
}  // namespace

std::span<const ${TYPE}> ${FUNCTION}() { return kAssets; }

}  // namespace pastur
")
