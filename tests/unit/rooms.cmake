# Tests that look inside a room. The room is the first part of the name.
foreach(subject IN ITEMS base_bits base_format config_parse config_start fault_line map_books map_tags map_threads
        map_window os_memory os_process os_threads stack_describe)
  allot_test(unit.${subject} ${subject}.c TIMEOUT 120)
endforeach()

# The contract of os.h, kept by everyone who fulfils it.
allot_test(unit.os_fake os_fake.c WITH fake)
allot_test(unit.map_refused map_refused.c WITH fake)
set(posix_files os/posix.c os/unix.c os/access.c os/child.c os/check.c base/format.c)
list(TRANSFORM posix_files PREPEND ${PROJECT_SOURCE_DIR}/src/)
foreach(subject IN ITEMS os_memory os_process os_threads)
  allot_test(unit.${subject}.fake ${subject}.c WITH fake TIMEOUT 120)
  allot_test(unit.${subject}.posix ${subject}.c ${posix_files} WITH nothing TIMEOUT 120)
  target_include_directories(unit.${subject}.posix PRIVATE ${PROJECT_SOURCE_DIR}/src)
endforeach()

# Without frame pointers, as distributions build programs. What posix.c knows of modules is too little for that.
if(NOT ALLOT_OS STREQUAL "posix")
  allot_test(unit.stack_capture stack_capture.c)
  target_compile_options(unit.stack_capture PRIVATE -fomit-frame-pointer)
  target_link_options(unit.stack_capture PRIVATE LINKER:--eh-frame-hdr) # musl-gcc leaves it out
endif()
