# Run-time dispatch: only kernels/isa/<isa>*.c is compiled for more than the x86-64-v2 baseline; OpenMP is seen by
# topology/ alone, so that no file has both intrinsics and pragmas.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  target_compile_options(quire_objects PRIVATE $<$<COMPILE_LANGUAGE:C,CXX>:-march=x86-64-v2>)
  set(isa_flags_avx2 -mavx2 -mfma -mf16c)
  set(isa_flags_avx512 ${isa_flags_avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl)
  set(isa_flags_avx512_bf16 ${isa_flags_avx512} -mavx512bf16 -mavx512vnni)
  set(isa_flags_amx ${isa_flags_avx512_bf16} -mamx-tile -mamx-bf16 -mamx-int8)
  set(isa_flags_avx512_vnni ${isa_flags_avx512} -mavx512vnni)
  foreach(isa avx2 avx512 avx512_vnni avx512_bf16 amx)
    file(GLOB isa_sources CONFIGURE_DEPENDS kernels/isa/${isa}.c)
    # The scalar table, made from the same templates, keeps the sanitizers; instrumented intrinsics compile for minutes.
    set_source_files_properties(${isa_sources} PROPERTIES COMPILE_OPTIONS
      "${isa_flags_${isa}};-fno-sanitize=all")
  endforeach()
endif()
set_source_files_properties(topology/team.c topology/affinity.c PROPERTIES COMPILE_OPTIONS "${OpenMP_C_FLAGS}")
