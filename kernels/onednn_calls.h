/* The calls to oneDNN that may allocate, as qr_<name>, without its exceptions: std::bad_alloc is dnnl_out_of_memory,
 * any other dnnl_runtime_error. oneDNN 2.6 lets both pass through its C interface. */
#ifndef QR_ONEDNN_CALLS_H
#define QR_ONEDNN_CALLS_H

#include <dnnl.h>

#if DNNL_VERSION_MAJOR >= 3
#define QR_ONEDNN_VERSIONED_CALLS(X)                                                                                   \
    X(dnnl_memory_desc_create_with_tag,                                                                                \
      (dnnl_memory_desc_t * out, int rank, const dnnl_dims_t dims, dnnl_data_type_t type, dnnl_format_tag_t tag),      \
      (out, rank, dims, type, tag))                                                                                    \
    X(dnnl_memory_desc_clone, (dnnl_memory_desc_t * out, const_dnnl_memory_desc_t from), (out, from))                  \
    X(dnnl_matmul_primitive_desc_create,                                                                               \
      (dnnl_primitive_desc_t * out, dnnl_engine_t engine, const_dnnl_memory_desc_t source,                             \
       const_dnnl_memory_desc_t weights, const_dnnl_memory_desc_t bias, const_dnnl_memory_desc_t result,               \
       const_dnnl_primitive_attr_t attributes),                                                                        \
      (out, engine, source, weights, bias, result, attributes))
#else
#define QR_ONEDNN_VERSIONED_CALLS(X)                                                                                   \
    X(dnnl_primitive_desc_create,                                                                                      \
      (dnnl_primitive_desc_t * out, const_dnnl_op_desc_t operation, const_dnnl_primitive_attr_t attributes,            \
       dnnl_engine_t engine, const_dnnl_primitive_desc_t hint),                                                        \
      (out, operation, attributes, engine, hint))
#endif

/* name, parameters, arguments */
#define QR_ONEDNN_CALLS(X)                                                                                             \
    QR_ONEDNN_VERSIONED_CALLS(X)                                                                                       \
    X(dnnl_engine_create, (dnnl_engine_t * out, dnnl_engine_kind_t kind, size_t index), (out, kind, index))            \
    X(dnnl_stream_create, (dnnl_stream_t * out, dnnl_engine_t engine, unsigned flags), (out, engine, flags))           \
    X(dnnl_primitive_attr_create, (dnnl_primitive_attr_t * out), (out))                                                \
    X(dnnl_primitive_create, (dnnl_primitive_t * out, const_dnnl_primitive_desc_t description), (out, description))    \
    X(dnnl_memory_create, (dnnl_memory_t * out, QR_ONEDNN_DESCRIPTOR description, dnnl_engine_t engine, void *handle), \
      (out, description, engine, handle))                                                                              \
    X(dnnl_memory_set_data_handle, (dnnl_memory_t memory, void *handle), (memory, handle))                             \
    X(dnnl_primitive_execute,                                                                                          \
      (const_dnnl_primitive_t primitive, dnnl_stream_t stream, int count, const dnnl_exec_arg_t *arguments),           \
      (primitive, stream, count, arguments))

#if DNNL_VERSION_MAJOR >= 3
#define QR_ONEDNN_DESCRIPTOR const_dnnl_memory_desc_t
#else
#define QR_ONEDNN_DESCRIPTOR const dnnl_memory_desc_t *
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define QR_ONEDNN_DECLARE(name, parameters, arguments) dnnl_status_t qr_##name parameters;
QR_ONEDNN_CALLS(QR_ONEDNN_DECLARE)
#undef QR_ONEDNN_DECLARE

#ifdef __cplusplus
}
#endif

#endif
