# Checks that a library of the house sees the headers of the rooms it links and of no other room.
#   cmake -DCOMPILER=c++ -DROOM=config -DSEES=kernels|config -DINCLUDES=dir|dir -P tests/house.cmake
cmake_minimum_required(VERSION 3.25)
set(headers
  kernels=kernels/base/tensor.h diag=diag/metrics.h data=data/loader.h config=engine/config/config.h
  io=engine/io/logger.h ranks=engine/ranks/comm.h model=engine/model/model.h spectra=engine/spectra/monitor.h
  train=engine/train/trainer.h convert=engine/convert/conversion.h bench=engine/bench/bench.h tools=tools/pastur/commands.h)
string(REPLACE "|" ";" sees "${SEES}")
string(REPLACE "|" ";" includes "${INCLUDES}")
list(TRANSFORM includes PREPEND -I)

set(probe "")
foreach(entry ${headers})
  string(REPLACE "=" ";" entry ${entry})
  list(POP_FRONT entry room header)
  if(room IN_LIST sees)
    string(APPEND probe "#if !__has_include(\"${header}\")\n#error ${ROOM} does not see ${header}\n#endif\n")
  else()
    string(APPEND probe "#if __has_include(\"${header}\")\n#error ${ROOM} must not include ${header}\n#endif\n")
  endif()
endforeach()
set(file ${CMAKE_CURRENT_BINARY_DIR}/house_${ROOM}.cpp)
file(WRITE ${file} "${probe}")
execute_process(COMMAND ${COMPILER} -fsyntax-only ${includes} ${file} RESULT_VARIABLE status ERROR_VARIABLE errors)
file(REMOVE ${file})
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${errors}")
endif()
