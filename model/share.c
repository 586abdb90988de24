/* Who owns which columns. Integers only. */
#include "model/share.h"

#include "base/bits.h"
#include "base/error.h"

enum { UNIT = 64 /* columns that kernels take at once: shares are whole ones where there are enough */ };

/* Part `part` of `parts` of 0..count-1. */
static qr_span deal(uint32_t count, uint32_t part, uint32_t parts)
{
    const uint64_t n = count, first = n * part / parts;
    return (qr_span){(uint32_t)first, (uint32_t)(n * (part + 1) / parts - first)};
}

static qr_span deal_units(uint32_t columns, uint32_t unit, uint32_t rank, uint32_t ranks)
{
    const qr_span  units = deal(qr_ceil_div_u32(columns, unit), rank, ranks);
    const uint32_t first = qr_min_u32(units.first * unit, columns);
    return (qr_span){first, qr_min_u32((units.first + units.count) * unit, columns) - first};
}

static qr_span deal_columns(uint32_t columns, uint32_t rank, uint32_t ranks)
{
    uint32_t unit = UNIT;
    while (unit > 1 && qr_ceil_div_u32(columns, unit) < ranks) unit /= 2;
    return deal_units(columns, unit, rank, ranks);
}

static void deal_heads(const qr_architecture *a, qr_share *s)
{
    const uint32_t group = a->heads / a->kv_heads;
    if (s->ranks <= a->kv_heads) {
        s->kv_heads = deal(a->kv_heads, s->rank, s->ranks);
        s->heads    = (qr_span){s->kv_heads.first * group, s->kv_heads.count * group};
        return;
    }
    const uint32_t kv    = (uint32_t)((uint64_t)s->rank * a->kv_heads / s->ranks);
    const uint32_t first = (uint32_t)qr_ceil_div_u64((uint64_t)kv * s->ranks, a->kv_heads); /* rank that has it */
    const uint32_t next  = (uint32_t)qr_ceil_div_u64((uint64_t)(kv + 1) * s->ranks, a->kv_heads);
    const qr_span  own   = deal(group, s->rank - first, next - first);
    s->kv_heads          = (qr_span){kv, 1};
    s->heads             = (qr_span){kv * group + own.first, own.count};
}

qr_share qr_share_of(const qr_architecture *a, uint32_t rank, uint32_t ranks)
{
    qr_share s = {.rank = rank, .ranks = ranks};
    deal_heads(a, &s);
    s.hidden     = deal_columns(a->hidden_size, rank, ranks);
    s.inner      = deal_columns(a->intermediate_size, rank, ranks);
    s.expert     = deal_columns(a->expert_size, rank, ranks);
    s.vocabulary = deal_units(a->vocab_size, QR_LSE_COLUMNS, rank, ranks);
    return s;
}

static quire_status check_count(uint32_t count, const char *what, uint32_t ranks, quire_error *error)
{
    if (count >= ranks) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID,
                   "%u ranks, but this model has %u %s; there can be at most one rank for each", ranks, count, what);
}

quire_status qr_share_check(const qr_architecture *a, uint32_t ranks, quire_error *error)
{
    if (ranks == 1) return QUIRE_OK;
    QR_TRY(check_count(a->heads, "attention heads", ranks, error));
    QR_TRY(check_count(a->hidden_size, "columns (hidden_size)", ranks, error));
    if (a->experts > 0) QR_TRY(check_count(a->expert_size, "columns in an expert", ranks, error));
    if (qr_has_dense_layers(a)) QR_TRY(check_count(a->intermediate_size, "columns (intermediate_size)", ranks, error));
    return QUIRE_OK;
}

static qr_span columns_of(qr_span heads, uint32_t before, uint32_t head_dim)
{
    return (qr_span){before + heads.first * head_dim, heads.count * head_dim};
}

uint32_t qr_share_spans(const qr_architecture *a, const qr_share *s, qr_cut cut, qr_span spans[QR_CUT_SPANS])
{
    const uint32_t kv = qr_kv_columns(a), before = cut == QR_CUT_QUERIES_KEYS_VALUES ? qr_q_columns(a) : 0;
    uint32_t       count = 0;
    switch (cut) {
    case QR_CUT_NONE: break;
    case QR_CUT_QUERIES: spans[count++] = columns_of(s->heads, 0, a->head_dim); break;
    case QR_CUT_KEYS: spans[count++] = columns_of(s->kv_heads, 0, a->head_dim); break;
    case QR_CUT_QUERIES_KEYS_VALUES:
    case QR_CUT_KEYS_VALUES:
        if (before > 0) spans[count++] = columns_of(s->heads, 0, a->head_dim);
        spans[count++] = columns_of(s->kv_heads, before, a->head_dim);
        spans[count++] = columns_of(s->kv_heads, before + kv, a->head_dim);
        break;
    case QR_CUT_HIDDEN: spans[count++] = s->hidden; break;
    case QR_CUT_INNER: spans[count++] = s->inner; break;
    case QR_CUT_EXPERT: spans[count++] = s->expert; break;
    case QR_CUT_VOCABULARY: spans[count++] = s->vocabulary; break;
    case QR_CUT_GROUPS:
        spans[count++] =
            (qr_span){s->vocabulary.first / QR_LSE_COLUMNS, qr_ceil_div_u32(s->vocabulary.count, QR_LSE_COLUMNS)};
        break;
    }
    return count;
}
