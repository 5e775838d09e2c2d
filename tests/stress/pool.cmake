# Short runs of each for every build, long ones under the label slow.
foreach(subject IN ITEMS threads storm)
  allot_test(stress.pool_${subject} pool_${subject}.c TIMEOUT 120 ARGS 1 4)
  add_test(NAME stress.pool_${subject}.long COMMAND stress.pool_${subject} 60 8)
  set_tests_properties(stress.pool_${subject}.long PROPERTIES LABELS "stress;slow" TIMEOUT 900)
endforeach()
if(NOT ALLOT_SANITIZE) # a sanitizer's own threads don't outlive threads that stand still
  allot_test(stress.pool_stopped pool_stopped.c TIMEOUT 120 ARGS 20)
  add_test(NAME stress.pool_stopped.long COMMAND stress.pool_stopped 1000)
  set_tests_properties(stress.pool_stopped.long PROPERTIES LABELS "stress;slow" TIMEOUT 1800)
endif()
if(NOT ALLOT_SANITIZE MATCHES "thread") # fails there: a walk by AO's macros counts wrongly, not understood
  allot_test(stress.pool_ao pool_ao.c WITH nothing TIMEOUT 120 ARGS 4 100)
  target_link_libraries(stress.pool_ao PRIVATE allot_ao_static)
  add_test(NAME stress.pool_ao.long COMMAND stress.pool_ao 16 1000)
  set_tests_properties(stress.pool_ao.long PROPERTIES LABELS "stress;slow" TIMEOUT 1800)
endif()
