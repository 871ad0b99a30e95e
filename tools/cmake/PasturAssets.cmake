# Turns the files of tools/report/ into a C++ source, so the program carries them and needs no other file.
#   cmake -DFILES=a.js,b.css -DOUTPUT=assets.cpp -P PasturAssets.cmake
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
#include \"tools/pastur/report/report_page.h\"

namespace pastur {
namespace {
${source}constexpr ReportAsset kAssets[] = {
${entries}};
}  // namespace

std::span<const ReportAsset> report_assets() { return kAssets; }

}  // namespace pastur
")
