# allot_test(<group.name> <source>... [WITH rooms|fake|core|names|nothing] [LABELS <label>...] [ARGS <arg>...]
#            [ENVIRONMENT <NAME=value>...] [TIMEOUT <seconds>])
#
# A program and its ctest, labelled with the group. WITH says what it is linked to:
#   rooms    every room, inner names included (the default)
#   fake     the same on an OS that fails on command
#   core     liballot_core.so, so public names only
#   names    liballot.so: the program's malloc is allot's. No such tests in builds with a sanitizer
#   nothing  the program's own malloc
# cmocka can be used by all. Labels that leave a test out of make test: slow (make stress) and world
# (make world). Those labelled programs run in the release build only.
include(CMakeParseArguments)

find_package(PkgConfig)
add_library(allot_cmocka INTERFACE)
if(CMAKE_C_COMPILER MATCHES "musl")
  target_include_directories(allot_cmocka INTERFACE ${PROJECT_SOURCE_DIR}/tests/cmocka_small)
else()
  pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
  target_link_libraries(allot_cmocka INTERFACE PkgConfig::CMOCKA)
endif()
find_package(Threads REQUIRED)

# Tests call malloc to see what it does: no call may be optimised away, and misuse is what they are for.
add_library(allot_test_flags INTERFACE)
target_compile_options(allot_test_flags INTERFACE
  -fno-builtin "$<$<C_COMPILER_ID:GNU>:-Wno-use-after-free;-Wno-free-nonheap-object>"
  $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-fsized-deallocation>)

add_library(allot_with_nothing INTERFACE)
target_include_directories(allot_with_nothing INTERFACE ${PROJECT_SOURCE_DIR}/include)
add_library(allot_with_rooms INTERFACE)
target_link_libraries(allot_with_rooms INTERFACE allot_rooms)
target_include_directories(allot_with_rooms INTERFACE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
add_library(allot_with_core INTERFACE)
target_link_libraries(allot_with_core INTERFACE allot_core)
if(TARGET allot_rooms_fake)
  add_library(allot_with_fake INTERFACE)
  target_link_libraries(allot_with_fake INTERFACE allot_rooms_fake)
  target_include_directories(allot_with_fake INTERFACE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
endif()
if(TARGET allot)
  add_library(allot_with_names INTERFACE)
  target_link_libraries(allot_with_names INTERFACE allot)
endif()

# The thread sanitizer of gcc 12 knows only the address layouts of older kernels, or one that is not random.
if(ALLOT_SANITIZE STREQUAL "thread")
  find_program(ALLOT_SETARCH setarch)
  execute_process(COMMAND ${ALLOT_SETARCH} -R true RESULT_VARIABLE result OUTPUT_QUIET ERROR_QUIET)
  if(result EQUAL 0)
    set(CMAKE_CROSSCOMPILING_EMULATOR ${ALLOT_SETARCH} -R)
  endif()
endif()

function(allot_test name)
  cmake_parse_arguments(PARSE_ARGV 1 test "" "WITH;TIMEOUT" "LABELS;ARGS;ENVIRONMENT")
  if(NOT test_WITH)
    set(test_WITH rooms)
  endif()
  if(NOT TARGET allot_with_${test_WITH})
    return()
  endif()
  if(NOT test_TIMEOUT)
    set(test_TIMEOUT 60)
  endif()
  string(REGEX MATCH "^[^.]+" group ${name})
  add_executable(${name} ${test_UNPARSED_ARGUMENTS})
  target_compile_definitions(${name} PRIVATE $<$<COMPILE_LANGUAGE:C>:_GNU_SOURCE=> $<$<NOT:$<STREQUAL:${ALLOT_DEBUG},0>>:ALLOT_DEBUG=${ALLOT_DEBUG}>)
  target_link_libraries(${name} PRIVATE
    allot_warnings allot_test_flags allot_with_${test_WITH} allot_cmocka Threads::Threads)
  target_link_options(${name} PRIVATE LINKER:--as-needed)
  add_test(NAME ${name} COMMAND ${name} ${test_ARGS})
  set_tests_properties(${name} PROPERTIES
    LABELS "${group};${test_LABELS}" TIMEOUT ${test_TIMEOUT} ENVIRONMENT "${test_ENVIRONMENT}")
endfunction()
