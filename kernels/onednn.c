/* oneDNN's matmul, 2.6 and 3.x. In 2.x memory descriptors are structs, in 3.x handles: `descriptor` hides that. */
#include "kernels/onednn.h"

#include <string.h>

#include <dnnl_debug.h>

#include "base/error.h"
#include "base/memory.h"
#include "kernels/onednn_calls.h"

enum { PROBE_ROWS = 64, PANEL_COLUMNS = 64, PANEL_K = 16 };

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t       descriptor;
typedef const_dnnl_memory_desc_t descriptor_view;
#define VIEW(d) (d)
#else
typedef dnnl_memory_desc_t        descriptor;
typedef const dnnl_memory_desc_t *descriptor_view;
#define VIEW(d) (&(d))
#endif

struct qr_onednn {
    quire_allocator allocator;
    dnnl_engine_t   engine;
    uint32_t        thread_count;
    dnnl_stream_t   streams[]; /* [thread_count] */
};

struct qr_onednn_weights {
    qr_onednn      *onednn;
    qr_onednn_shape shape;
    descriptor      layout;
    char            implementation[64];
};

enum { SOURCE, WEIGHTS, RESULT, SCRATCH, MEMORY_COUNT };

struct qr_onednn_matmul {
    qr_onednn       *onednn;
    dnnl_stream_t    stream;
    dnnl_primitive_t primitive;
    dnnl_memory_t    memories[MEMORY_COUNT];
    void            *handles[MEMORY_COUNT]; /* what the memories point at */
    size_t           scratch_bytes;
};

/* ---- what differs between 2.x and 3.x ---- */

static dnnl_status_t descriptor_create(descriptor *d, uint32_t rows, uint32_t columns, dnnl_data_type_t type,
                                       dnnl_format_tag_t tag)
{
    const dnnl_dims_t dims = {rows, columns};
#if DNNL_VERSION_MAJOR >= 3
    return qr_dnnl_memory_desc_create_with_tag(d, 2, dims, type, tag);
#else
    return dnnl_memory_desc_init_by_tag(d, 2, dims, type, tag);
#endif
}

static void descriptor_destroy(descriptor *d)
{
#if DNNL_VERSION_MAJOR >= 3
    if (*d) dnnl_memory_desc_destroy(*d);
#endif
    memset(d, 0, sizeof *d);
}

static dnnl_status_t descriptor_clone(descriptor *d, descriptor_view from)
{
#if DNNL_VERSION_MAJOR >= 3
    return qr_dnnl_memory_desc_clone(d, from);
#else
    *d = *from;
    return dnnl_success;
#endif
}

typedef struct blocking {
    int        count;
    dnnl_dim_t blocks[4], dims[4], strides[2];
} blocking;

/* false: more inner blocks than any layout known here. */
static bool descriptor_blocking(descriptor_view d, blocking *b)
{
#if DNNL_VERSION_MAJOR >= 3
    const dnnl_dims_t *blocks = NULL, *dims = NULL, *strides = NULL;
    if (dnnl_memory_desc_query(d, dnnl_query_inner_nblks_s32, &b->count) != dnnl_success ||
        dnnl_memory_desc_query(d, dnnl_query_inner_blks, &blocks) != dnnl_success ||
        dnnl_memory_desc_query(d, dnnl_query_inner_idxs, &dims) != dnnl_success ||
        dnnl_memory_desc_query(d, dnnl_query_strides, &strides) != dnnl_success)
        return false;
#else
    if (d->format_kind != dnnl_blocked) return false;
    const dnnl_blocking_desc_t *all    = &d->format_desc.blocking;
    const dnnl_dims_t          *blocks = &all->inner_blks, *dims = &all->inner_idxs, *strides = &all->strides;
    b->count = all->inner_nblks;
#endif
    if (b->count < 0 || b->count > 4) return false;
    for (int i = 0; i < b->count; i++) b->blocks[i] = (*blocks)[i], b->dims[i] = (*dims)[i];
    for (int i = 0; i < 2; i++) b->strides[i] = (*strides)[i];
    return true;
}

static dnnl_status_t matmul_description(dnnl_primitive_desc_t *out, dnnl_engine_t engine, descriptor_view x,
                                        descriptor_view w, descriptor_view y, const_dnnl_primitive_attr_t attributes)
{
#if DNNL_VERSION_MAJOR >= 3
    return qr_dnnl_matmul_primitive_desc_create(out, engine, x, w, NULL, y, attributes);
#else
    dnnl_matmul_desc_t  operation;
    const dnnl_status_t status = dnnl_matmul_desc_init(&operation, x, w, NULL, y);
    return status != dnnl_success ? status : qr_dnnl_primitive_desc_create(out, &operation, attributes, engine, NULL);
#endif
}

/* ---- the same in both ---- */

/* Outside the team's parallel region oneDNN would open one of its own, and its AVX2 matmul would then split k between
 * threads and give other bits. The setting is the calling thread's alone. OpenMP's header belongs to topology/team. */
int  omp_get_max_threads(void);
void omp_set_num_threads(int count);

static int one_thread_begin(void)
{
    const int before = omp_get_max_threads();
    omp_set_num_threads(1);
    return before;
}

static void one_thread_end(int before) { omp_set_num_threads(before); }

static const dnnl_data_type_t data_types[] = {[QR_F32] = dnnl_f32, [QR_BF16] = dnnl_bf16, [QR_INT8] = dnnl_s8};

static quire_status fail(quire_error *error, const char *what, dnnl_status_t status)
{
    const quire_status code = status == dnnl_out_of_memory   ? QUIRE_ERR_NO_MEMORY
                              : status == dnnl_unimplemented ? QUIRE_ERR_UNSUPPORTED
                                                             : QUIRE_ERR_INTERNAL;
    if (code == QUIRE_ERR_NO_MEMORY) return qr_fail(error, code, "oneDNN: not enough memory for %s", what);
    return qr_fail(error, code, "oneDNN: %s: %s", what, dnnl_status2str(status));
}

/* Below the cap oneDNN would mix instruction sets with different orders of summation into one engine. */
static void cap_isa(const char *isa)
{
    static const struct {
        const char    *isa;
        dnnl_cpu_isa_t cap;
    } caps[] = {
#define QR_ISA(name, features, onednn) {#name, dnnl_cpu_isa_##onednn},
#include "kernels/isa.inc"
#undef QR_ISA
    };
    for (size_t i = 0; i < sizeof caps / sizeof *caps; i++)
        if (strcmp(isa, caps[i].isa) == 0) dnnl_set_max_cpu_isa(caps[i].cap); /* refused once oneDNN is in use */
}

quire_status qr_onednn_create(const char *isa, uint32_t thread_count, const quire_allocator *allocator,
                              qr_onednn **onednn_out, quire_error *error)
{
    *onednn_out       = NULL;
    const size_t size = sizeof(qr_onednn) + thread_count * sizeof(dnnl_stream_t);
    qr_onednn   *o    = qr_allocate(allocator, size, 64);
    if (o == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "oneDNN: %zu bytes of memory are not available", size);
    if (allocator) o->allocator = *allocator;
    o->thread_count = thread_count;
    cap_isa(isa);
    dnnl_status_t status = qr_dnnl_engine_create(&o->engine, dnnl_cpu, 0);
    for (uint32_t i = 0; i < thread_count && status == dnnl_success; i++)
        status = qr_dnnl_stream_create(&o->streams[i], o->engine, dnnl_stream_default_flags);
    if (status != dnnl_success) {
        qr_onednn_destroy(o);
        return fail(error, "the CPU engine", status);
    }
    *onednn_out = o;
    return QUIRE_OK;
}

void qr_onednn_destroy(qr_onednn *o)
{
    if (o == NULL) return;
    for (uint32_t i = 0; i < o->thread_count; i++)
        if (o->streams[i]) dnnl_stream_destroy(o->streams[i]);
    if (o->engine) dnnl_engine_destroy(o->engine);
    const quire_allocator allocator = o->allocator;
    qr_deallocate(&allocator, o, sizeof(qr_onednn) + o->thread_count * sizeof(dnnl_stream_t));
}

/* Scratch memory comes from the caller: by default oneDNN would allocate it. */
static dnnl_status_t attributes_create(dnnl_primitive_attr_t *out)
{
    dnnl_status_t status = qr_dnnl_primitive_attr_create(out);
    if (status == dnnl_success) status = dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user);
    return status;
}

/* The description of `rows` rows times weights laid out as `layout`. */
static dnnl_status_t describe(const qr_onednn_weights *weights, uint32_t rows, descriptor_view layout,
                              dnnl_primitive_desc_t *out)
{
    const qr_onednn_shape *shape = &weights->shape;
    descriptor             x, y;
    dnnl_primitive_attr_t  attributes = NULL;
    memset(&x, 0, sizeof x), memset(&y, 0, sizeof y);
    dnnl_status_t status = descriptor_create(&x, rows, shape->k, data_types[shape->dtype], dnnl_ab);
    if (status == dnnl_success) status = descriptor_create(&y, rows, shape->columns, dnnl_f32, dnnl_ab);
    if (status == dnnl_success) status = attributes_create(&attributes);
    if (status == dnnl_success) {
        const int threads = one_thread_begin(); /* the implementation may be chosen by the count */
        status            = matmul_description(out, weights->onednn->engine, VIEW(x), layout, VIEW(y), attributes);
        one_thread_end(threads);
    }
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    descriptor_destroy(&x), descriptor_destroy(&y);
    return status;
}

static const char *implementation_of(const_dnnl_primitive_desc_t description)
{
    const char *name = NULL;
    dnnl_primitive_desc_query(description, dnnl_query_impl_info_str, 0, &name);
    return name ? name : "unknown";
}

/* Panels of 64 columns, [k / step][64][step] inside, in blocks of 16 steps (BA16a64b, BA16a64b2a, BA16a64b4a). */
static bool is_panel_layout(const qr_onednn_shape *shape, descriptor_view layout)
{
    const int  step         = shape->dtype == QR_F32 ? 1 : shape->dtype == QR_BF16 ? 2 : 4;
    const bool last_is_step = step > 1;
    blocking   b            = {0};
    if (!descriptor_blocking(layout, &b) || b.count != (last_is_step ? 3 : 2)) return false;
    const bool   inner = b.blocks[0] == PANEL_K && b.dims[0] == 0 && b.blocks[1] == PANEL_COLUMNS && b.dims[1] == 1;
    const bool   pairs = !last_is_step || (b.blocks[2] == step && b.dims[2] == 0);
    const size_t data  = (size_t)shape->k * shape->columns * qr_dtype_bytes(shape->dtype);
    const size_t size  = dnnl_memory_desc_get_size(layout); /* int8: -128 * column sums, and room for more, follow */
    const size_t sums  = shape->dtype == QR_INT8 ? shape->columns * sizeof(int32_t) : 0;
    return inner && pairs && b.strides[0] == (dnnl_dim_t)PANEL_K * step * PANEL_COLUMNS &&
           b.strides[1] == (dnnl_dim_t)shape->k * PANEL_COLUMNS && size >= data + sums && (sums > 0 || size == data);
}

static quire_status probe(qr_onednn_weights *weights, quire_error *error)
{
    const qr_onednn_shape *shape       = &weights->shape;
    dnnl_primitive_desc_t  description = NULL;
    descriptor             wanted;
    memset(&wanted, 0, sizeof wanted);
    const dnnl_format_tag_t tag = shape->packed ? dnnl_format_tag_any : dnnl_ba;
    dnnl_status_t status        = descriptor_create(&wanted, shape->k, shape->columns, data_types[shape->dtype], tag);
    if (status == dnnl_success) status = describe(weights, PROBE_ROWS, VIEW(wanted), &description);
    descriptor_destroy(&wanted);
    if (status != dnnl_success) return fail(error, "a matmul", status);

    const char     *name   = implementation_of(description);
    descriptor_view layout = dnnl_primitive_desc_query_md(description, dnnl_query_weights_md, 0);
    quire_status    result = QUIRE_OK;
    strncpy(weights->implementation, name, sizeof weights->implementation - 1);
    if (shape->packed && strncmp(name, "brg", 3) != 0)
        result = qr_fail(error, QUIRE_ERR_UNSUPPORTED, "oneDNN %d.%d would run %s, not its packed brgemm",
                         DNNL_VERSION_MAJOR, DNNL_VERSION_MINOR, name);
    else if (shape->packed && !is_panel_layout(shape, layout))
        result = qr_fail(error, QUIRE_ERR_UNSUPPORTED, "oneDNN %d.%d's %s wants its weights in an unknown layout",
                         DNNL_VERSION_MAJOR, DNNL_VERSION_MINOR, name);
    else if ((status = descriptor_clone(&weights->layout, layout)) != dnnl_success)
        result = fail(error, "a memory descriptor", status);
    dnnl_primitive_desc_destroy(description);
    return result;
}

quire_status qr_onednn_weights_create(qr_onednn *onednn, const qr_onednn_shape *shape, qr_onednn_weights **weights_out,
                                      quire_error *error)
{
    *weights_out               = NULL;
    qr_onednn_weights *weights = qr_allocate(&onednn->allocator, sizeof *weights, 64);
    if (weights == NULL)
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "oneDNN: %zu bytes of memory are not available", sizeof *weights);
    weights->onednn           = onednn;
    weights->shape            = *shape;
    const quire_status status = probe(weights, error);
    if (status != QUIRE_OK) {
        qr_onednn_weights_destroy(weights);
        return status;
    }
    *weights_out = weights;
    return QUIRE_OK;
}

void qr_onednn_weights_destroy(qr_onednn_weights *weights)
{
    if (weights == NULL) return;
    descriptor_destroy(&weights->layout);
    qr_deallocate(&weights->onednn->allocator, weights, sizeof *weights);
}

const char *qr_onednn_weights_implementation(const qr_onednn_weights *weights) { return weights->implementation; }

static const int arguments[MEMORY_COUNT] = {
    [SOURCE] = DNNL_ARG_SRC, [WEIGHTS] = DNNL_ARG_WEIGHTS, [RESULT] = DNNL_ARG_DST, [SCRATCH] = DNNL_ARG_SCRATCHPAD};

static dnnl_status_t memories_create(qr_onednn_matmul *matmul, const_dnnl_primitive_desc_t description)
{
    static const dnnl_query_t queries[MEMORY_COUNT] = {[SOURCE]  = dnnl_query_src_md,
                                                       [WEIGHTS] = dnnl_query_weights_md,
                                                       [RESULT]  = dnnl_query_dst_md,
                                                       [SCRATCH] = dnnl_query_scratchpad_md};
    dnnl_status_t             status                = dnnl_success;
    for (int i = 0; i < MEMORY_COUNT && status == dnnl_success; i++) {
        descriptor_view d = dnnl_primitive_desc_query_md(description, queries[i], 0);
        if (i == SCRATCH) matmul->scratch_bytes = dnnl_memory_desc_get_size(d);
        status = qr_dnnl_memory_create(&matmul->memories[i], d, matmul->onednn->engine, DNNL_MEMORY_NONE);
    }
    return status;
}

quire_status qr_onednn_matmul_create(const qr_onednn_weights *weights, uint32_t thread, uint32_t rows,
                                     qr_onednn_matmul **matmul_out, quire_error *error)
{
    qr_onednn            *onednn      = weights->onednn;
    dnnl_primitive_desc_t description = NULL;
    *matmul_out                       = NULL;
    dnnl_status_t status              = describe(weights, rows, VIEW(weights->layout), &description);
    if (status != dnnl_success) return fail(error, "a matmul", status);
    if (strcmp(implementation_of(description), weights->implementation) != 0) {
        const quire_status result = qr_fail(error, QUIRE_ERR_UNSUPPORTED, "oneDNN would run %s for %u rows and %s else",
                                            implementation_of(description), rows, weights->implementation);
        dnnl_primitive_desc_destroy(description);
        return result;
    }
    qr_onednn_matmul *matmul = qr_allocate(&onednn->allocator, sizeof *matmul, 64);
    if (matmul == NULL) {
        status = dnnl_out_of_memory;
    } else {
        matmul->onednn    = onednn;
        matmul->stream    = onednn->streams[thread];
        const int threads = one_thread_begin();
        status            = qr_dnnl_primitive_create(&matmul->primitive, description);
        one_thread_end(threads);
        if (status == dnnl_success) status = memories_create(matmul, description);
    }
    dnnl_primitive_desc_destroy(description);
    if (status != dnnl_success) {
        qr_onednn_matmul_destroy(matmul);
        return fail(error, "a matmul primitive", status);
    }
    *matmul_out = matmul;
    return QUIRE_OK;
}

void qr_onednn_matmul_destroy(qr_onednn_matmul *matmul)
{
    if (matmul == NULL) return;
    for (int i = 0; i < MEMORY_COUNT; i++)
        if (matmul->memories[i]) dnnl_memory_destroy(matmul->memories[i]);
    if (matmul->primitive) dnnl_primitive_destroy(matmul->primitive);
    qr_deallocate(&matmul->onednn->allocator, matmul, sizeof *matmul);
}

size_t qr_onednn_matmul_scratch_bytes(const qr_onednn_matmul *matmul) { return matmul->scratch_bytes; }

/* oneDNN allocates a little for each change of a handle, so only changes are made. */
static dnnl_status_t point_memory(qr_onednn_matmul *matmul, int memory, void *handle)
{
    if (matmul->handles[memory] == handle) return dnnl_success;
    const dnnl_status_t status = qr_dnnl_memory_set_data_handle(matmul->memories[memory], handle);
    if (status == dnnl_success) matmul->handles[memory] = handle;
    return status;
}

bool qr_onednn_matmul_run(qr_onednn_matmul *matmul, const void *x, const void *weights, float *y, void *scratch)
{
    void *const handles[MEMORY_COUNT] = {
        [SOURCE] = (void *)(uintptr_t)x, [WEIGHTS] = (void *)(uintptr_t)weights, [RESULT] = y, [SCRATCH] = scratch};
    dnnl_exec_arg_t execute[MEMORY_COUNT];
    dnnl_status_t   status  = dnnl_success;
    const int       threads = one_thread_begin();
    for (int i = 0; i < MEMORY_COUNT; i++) {
        if (status == dnnl_success) status = point_memory(matmul, i, handles[i]);
        execute[i] = (dnnl_exec_arg_t){arguments[i], matmul->memories[i]};
    }
    if (status == dnnl_success)
        status = qr_dnnl_primitive_execute(matmul->primitive, matmul->stream, MEMORY_COUNT, execute);
    one_thread_end(threads);
    return status == dnnl_success;
}
