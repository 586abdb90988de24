/* What the ranks of one model tell one another within a step: each has computed its columns of some rows, and then all
 * have whole rows. Nothing is added up, so the bits are those of one rank. */
#include <string.h>

#include "base/clock.h"
#include "model/network.h"

qr_rows qr_share_view(const qr_rows *rows, qr_span span)
{
    qr_rows view = *rows;
    view.data    = (char *)rows->data + (size_t)span.first * qr_dtype_bytes(rows->dtype);
    view.dim     = span.count;
    return view;
}

static qr_span span_of_rank(const qr_network *network, uint32_t rank, qr_cut cut)
{
    qr_span        spans[QR_CUT_SPANS];
    const qr_share share = qr_share_of(network->architecture, rank, network->share.ranks);
    (void)qr_share_spans(network->architecture, &share, cut, spans);
    return spans[0];
}

/* Rows [first, first + count) on their way through the buffer: rank after rank, of each [count][its columns]. */
typedef struct exchange {
    const qr_rows *rows;
    uint32_t       first, count;
    qr_cut         cut;
    size_t         element;
} exchange;

static char *place_of(const exchange *x, uint32_t row, uint32_t column)
{
    const size_t at = x->rows->index != NULL ? x->rows->index[x->first + row] : x->first + row;
    return (char *)x->rows->data + (at * x->rows->stride + column) * x->element;
}

/* The thread's rows of one rank's block, into the buffer or out of it. */
static void copy_block(const qr_pass *pass, const exchange *x, uint32_t rank, bool out)
{
    const qr_network *network = pass->network;
    const qr_span     span    = span_of_rank(network, rank, x->cut);
    const size_t      bytes   = span.count * x->element;
    const uint64_t    rows = x->count, end = rows * (pass->thread + 1) / pass->thread_count;
    char             *block = network->buffers.exchanged + (size_t)span.first * x->element * x->count;
    for (uint32_t row = (uint32_t)(rows * pass->thread / pass->thread_count); row < end; row++) {
        char *in_buffer = block + row * bytes, *in_rows = place_of(x, row, span.first);
        memcpy(out ? in_rows : in_buffer, out ? in_buffer : in_rows, bytes);
    }
}

/* Thread 0, between two barriers. */
static void communicate(qr_pass *pass, const exchange *x, bool to_first)
{
    qr_network       *network = pass->network;
    const quire_comm *comm    = network->options.comm;
    size_t           *offsets = network->buffers.exchange_offsets;
    quire_step       *report  = network->report;
    const uint64_t    start   = qr_now_ns();
    if (network->lost_ranks) return;
    for (uint32_t rank = 0; rank < comm->ranks; rank++)
        offsets[rank] = (size_t)span_of_rank(network, rank, x->cut).first * x->element * x->count;
    offsets[comm->ranks] = (size_t)x->rows->dim * x->element * x->count;
    network->lost_ranks =
        (to_first ? comm->gather : comm->all_gather)(comm->context, network->buffers.exchanged, offsets) != 0;
    const size_t own = offsets[comm->rank + 1] - offsets[comm->rank];
    report->network_wait_ns += qr_now_ns() - start;
    report->network_messages++;
    report->network_bytes += to_first && comm->rank > 0 ? 0 : offsets[comm->ranks] - own;
}

static void exchange_rows(qr_pass *pass, const exchange *x, bool to_first)
{
    const qr_share *share  = &pass->network->share;
    uint64_t       *bucket = &pass->network->report->network_ns;
    copy_block(pass, x, share->rank, false);
    if (pass->thread_count > 1) qr_stage_end(pass, bucket);
    if (pass->thread == 0) communicate(pass, x, to_first);
    if (pass->thread_count > 1) qr_stage_end(pass, bucket);
    for (uint32_t rank = 0; rank < share->ranks && (!to_first || share->rank == 0); rank++)
        if (rank != share->rank) copy_block(pass, x, rank, true);
    qr_stage_end(pass, bucket);
}

void qr_stage_exchange(qr_pass *pass, const qr_rows *rows, uint32_t count, qr_cut cut, bool to_first)
{
    const qr_network *network = pass->network;
    exchange          x       = {.rows = rows, .cut = cut, .element = qr_dtype_bytes(rows->dtype)};
    if (network->share.ranks == 1) return;
    const uint32_t at_once =
        (uint32_t)qr_min_u64(network->buffers.exchange_bytes / (rows->dim * x.element), UINT32_MAX);
    for (; x.first < count; x.first += x.count) {
        x.count = qr_min_u32(at_once, count - x.first);
        exchange_rows(pass, &x, to_first);
    }
}
