# liballot_ao: AO_malloc and the AO stack for programs that were linked with -latomic_ops_gpl. The pool and what is below
# it, and nothing else visible than AO_*, so that it lives beside liballot. pkg-config knows it, and where its headers are.
set(objects $<TARGET_OBJECTS:allot_ao_objects>)
foreach(room IN ITEMS base os map pool)
  list(APPEND objects $<TARGET_OBJECTS:allot_room_${room}>)
endforeach()

set(exports ${PROJECT_SOURCE_DIR}/cmake/exports_ao.map)
add_library(allot_ao SHARED ${objects})
set_target_properties(allot_ao PROPERTIES
  VERSION ${PROJECT_VERSION} SOVERSION 1 LINKER_LANGUAGE C LINK_DEPENDS ${exports})
target_link_options(allot_ao PRIVATE LINKER:--version-script=${exports} LINKER:-z,now LINKER:-z,relro)

set(joined ${CMAKE_CURRENT_BINARY_DIR}/allot_ao.o)
add_custom_command(OUTPUT ${joined}
  COMMAND ${CMAKE_LINKER} -r -o ${joined} ${objects}
  COMMAND ${CMAKE_OBJCOPY} --wildcard "--keep-global-symbol=AO_*" ${joined}
  DEPENDS ${objects} COMMAND_EXPAND_LISTS VERBATIM COMMENT "Joining allot_ao.o")
set_source_files_properties(${joined} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
add_library(allot_ao_static STATIC ${joined})
set_target_properties(allot_ao_static PROPERTIES OUTPUT_NAME allot_ao LINKER_LANGUAGE C)

foreach(target IN ITEMS allot_ao allot_ao_static)
  target_include_directories(${target} INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include/allot-ao>)
endforeach()
install(TARGETS allot_ao allot_ao_static
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
configure_file(${PROJECT_SOURCE_DIR}/cmake/allot-ao.pc.in allot-ao.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/allot-ao.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES ${PROJECT_SOURCE_DIR}/docs/man/AO_malloc.3 DESTINATION ${CMAKE_INSTALL_MANDIR}/man3)
install(FILES ${PROJECT_SOURCE_DIR}/docs/man/allot_pool.7 DESTINATION ${CMAKE_INSTALL_MANDIR}/man7)
