# Arenas by their public names, on every backend: see arena_test.h.
foreach(subject IN ITEMS calls growth misuse shared sizes)
  allot_test(unit.arena_${subject} arena_${subject}.c WITH core TIMEOUT 120)
endforeach()
allot_test(unit.arena_books arena_books.c WITH fake)
