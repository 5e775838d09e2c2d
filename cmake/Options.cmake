# What the person who builds may choose. What the program chooses at run time is in ALLOT_OPTIONS, not here.
set(ALLOT_OS linux CACHE STRING "The file of src/os that speaks to the system: linux or posix")
set(ALLOT_SANITIZE "" CACHE STRING "For -fsanitize=: address,undefined or thread. Leaves out the standard names")
set(ALLOT_DEBUG 0 CACHE STRING "Assertions: 0 only those that keep memory whole, 1 all cheap ones, 2 walks as well")
option(ALLOT_WERROR "A warning fails the build" OFF)
option(ALLOT_TOOL "Build the allot command, where what it needs is installed" ${PROJECT_IS_TOP_LEVEL})
option(ALLOT_TESTS "Build the tests, the examples and the benchmark" ${PROJECT_IS_TOP_LEVEL})

set_property(CACHE ALLOT_OS PROPERTY STRINGS linux posix)
set_property(CACHE ALLOT_SANITIZE PROPERTY STRINGS "" address,undefined thread)
set_property(CACHE ALLOT_DEBUG PROPERTY STRINGS 0 1 2)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/src/os/${ALLOT_OS}.c)
  message(FATAL_ERROR "ALLOT_OS=${ALLOT_OS}: there is no src/os/${ALLOT_OS}.c")
endif()

# The library is C. C++ is for allot::override and for tests; a C-only tool chain (musl-gcc) leaves both out.
include(CheckLanguage)
check_language(CXX)
if(CMAKE_CXX_COMPILER)
  enable_language(CXX)
endif()
include(GNUInstallDirs)
