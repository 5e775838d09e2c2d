# Collections under load: a short run for every build that can, a long one under the label slow.
if(NOT ALLOT_OS STREQUAL "posix" AND NOT ALLOT_SANITIZE)
  allot_test(stress.gc_world gc_world.c WITH names TIMEOUT 300 ARGS 300 4)
  target_link_libraries(stress.gc_world PRIVATE ${CMAKE_DL_LIBS})
  add_test(NAME stress.gc_world.long COMMAND stress.gc_world 10000 16)
  set_tests_properties(stress.gc_world.long PROPERTIES LABELS "stress;slow" TIMEOUT 3600)
endif()
