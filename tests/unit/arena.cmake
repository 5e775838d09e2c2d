# Arenas by their public names, on every backend: see arena_test.h.
foreach(subject IN ITEMS calls growth misuse shared sizes trial)
  allot_test(unit.arena_${subject} arena_${subject}.c WITH core TIMEOUT 120)
endforeach()
allot_test(unit.arena_books arena_books.c WITH fake)
if(CMAKE_CXX_COMPILER)
  allot_test(unit.arena_memory_resource arena_memory_resource.cc WITH core)
endif()
