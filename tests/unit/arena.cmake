# Arenas by their public names, on every backend: see arena_test.h.
foreach(subject IN ITEMS calls growth lifetimes maps misuse protect refused shared sizes trial watch)
  allot_test(unit.arena_${subject} arena_${subject}.c WITH core TIMEOUT 120)
endforeach()
if(ALLOT_OS STREQUAL "posix")
  target_compile_definitions(unit.arena_growth PRIVATE ALLOT_TEST_OS_POSIX)
endif()
allot_test(unit.arena_books arena_books.c WITH fake)
if(CMAKE_CXX_COMPILER)
  allot_test(unit.arena_memory_resource arena_memory_resource.cc WITH core)
endif()

# Under valgrind a read of a free block is an error.
find_program(ALLOT_VALGRIND valgrind)
if(ALLOT_VALGRIND AND NOT ALLOT_SANITIZE AND CMAKE_C_COMPILER_ID STREQUAL "GNU" AND NOT CMAKE_C_COMPILER MATCHES "musl")
  add_test(NAME unit.arena_watch.valgrind
    COMMAND ${ALLOT_VALGRIND} -q --error-exitcode=1 $<TARGET_FILE:unit.arena_watch> wrong)
  set_tests_properties(unit.arena_watch.valgrind PROPERTIES
    LABELS unit TIMEOUT 120 PASS_REGULAR_EXPRESSION "Invalid read")
endif()
