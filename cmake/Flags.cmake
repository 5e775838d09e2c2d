# How allot's own code is compiled: link allot_flags to a target for all of it, allot_warnings for
# what tests and tools are held to as well.
include(CheckCCompilerFlag)
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_C_FLAGS_RELEASE "-O2 -g")
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g")

add_library(allot_warnings INTERFACE)
target_compile_options(allot_warnings INTERFACE
  -Wall -Wextra -Wshadow -Wundef -Wvla
  $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes>
  $<$<BOOL:${ALLOT_WERROR}>:-Werror>)

add_library(allot_flags INTERFACE)
target_link_libraries(allot_flags INTERFACE allot_warnings)
target_include_directories(allot_flags INTERFACE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
target_compile_definitions(allot_flags INTERFACE $<$<COMPILE_LANGUAGE:C>:_GNU_SOURCE=> $<$<NOT:$<STREQUAL:${ALLOT_DEBUG},0>>:ALLOT_DEBUG=${ALLOT_DEBUG}>)
target_compile_options(allot_flags INTERFACE
  $<$<COMPILE_LANGUAGE:C>:-Wconversion -Wmissing-prototypes>
  -fvisibility=hidden
  -ftls-model=initial-exec        # no __tls_get_addr: it may allocate, and a handler may not call it
  -fno-semantic-interposition
  -fno-plt
  -fasynchronous-unwind-tables)   # exceptions pass through operator new; profilers unwind out of malloc

# The compiler must not take malloc's body for a call of malloc, nor drop what it thinks nobody reads.
foreach(name IN ITEMS malloc calloc realloc reallocarray free aligned_alloc posix_memalign memalign valloc pvalloc)
  target_compile_options(allot_flags INTERFACE -fno-builtin-${name})
endforeach()

foreach(flag IN ITEMS -fcf-protection=none -fno-addrsig)
  string(MAKE_C_IDENTIFIER "ALLOT_HAS_${flag}" has)
  check_c_compiler_flag("-Werror ${flag}" ${has})
  if(${has})
    target_compile_options(allot_flags INTERFACE ${flag})
  endif()
endforeach()

if(ALLOT_SANITIZE)
  add_compile_options(-fsanitize=${ALLOT_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${ALLOT_SANITIZE})
endif()
