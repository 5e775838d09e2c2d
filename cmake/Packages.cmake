# make install: libraries, headers, pkg-config files, and a CMake package with
#   allot::allot     the shared library              allot::core         the shared library without the standard names
#   allot::static    the static library              allot::core_static  the static one
#   allot::override  static C++ programs: allot::static, and its new handlers
include(CMakePackageConfigHelpers)

set_target_properties(allot_core PROPERTIES EXPORT_NAME core)
add_library(allot::core ALIAS allot_core)
foreach(pair IN ITEMS allot:allot static:allot_static core_static:allot_core_static override:allot_override)
  string(REGEX MATCH "^(.*):(.*)$" _ ${pair})
  if(TARGET ${CMAKE_MATCH_2})
    set_target_properties(${CMAKE_MATCH_2} PROPERTIES EXPORT_NAME ${CMAKE_MATCH_1})
    add_library(allot::${CMAKE_MATCH_1} ALIAS ${CMAKE_MATCH_2})
  endif()
endforeach()

install(TARGETS ${ALLOT_PRODUCTS} EXPORT allot
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  OBJECTS DESTINATION ${CMAKE_INSTALL_LIBDIR}/allot)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
install(FILES ${PROJECT_SOURCE_DIR}/docs/man/allot.3 DESTINATION ${CMAKE_INSTALL_MANDIR}/man3)
install(FILES ${PROJECT_SOURCE_DIR}/docs/man/allot_arena.7 ${PROJECT_SOURCE_DIR}/docs/man/allot_backend_trial.7 ${PROJECT_SOURCE_DIR}/docs/man/allot_memory_resource.7 ${PROJECT_SOURCE_DIR}/docs/man/allot_options.7 ${PROJECT_SOURCE_DIR}/docs/man/liballot.7 ${PROJECT_SOURCE_DIR}/docs/man/allot_gcmap.7 ${PROJECT_SOURCE_DIR}/docs/man/allot_check.7 ${PROJECT_SOURCE_DIR}/docs/man/allot_leak.7
  DESTINATION ${CMAKE_INSTALL_MANDIR}/man7)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/allot)
install(EXPORT allot NAMESPACE allot:: FILE allot-config.cmake DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/allot-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/allot-config-version.cmake DESTINATION ${package_dir})

# The prefix as seen from the .pc file, so that the tree may be installed or moved anywhere.
string(REGEX REPLACE "[^/]+" ".." up "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
foreach(name IN ITEMS allot allot_core)
  configure_file(${PROJECT_SOURCE_DIR}/cmake/${name}.pc.in ${name}.pc @ONLY)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()
