# The pool, from its inside: it stands on few rooms, so these need neither the heap nor the standard names.
foreach(subject IN ITEMS misuse private recovery sizes stack)
  allot_test(unit.pool_${subject} pool_${subject}.c)
endforeach()
