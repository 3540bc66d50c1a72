/* merge.c - the ids of one piece: of all neighbours that a merge joins, those of the lowest rank are joined first, from
 * left to right, until none are left. */
#include "data/encode.h"

#include "base/memory.h"

#include <string.h>

enum { SHORT_PIECE = 48 };
static const uint32_t no_rank = UINT32_MAX;

static uint32_t rank_of(const grd_tokenizer *t, uint32_t a, uint32_t b)
{
    const uint32_t *rank = grdi_map_find(&t->rank_of, GRDI_PAIR(a, b));
    return rank ? *rank : no_rank;
}

static grd_status out_of_memory(grd_error *error)
{
    return grd_fail(error, GRD_E_MEMORY, "tokenizer: out of memory while encoding");
}

/* Writes the ids of the single bytes; *count gets how many there are. */
static grd_status byte_ids(const grd_tokenizer *t, const uint8_t *piece, size_t size_bytes, uint32_t *ids,
                           size_t *count, grd_error *error)
{
    size_t n = 0;
    for (size_t i = 0; i < size_bytes; i++) {
        int32_t id = t->byte_id[piece[i]] >= 0 ? t->byte_id[piece[i]] : t->unknown_id;
        if (id < 0)
            return grd_fail(error, GRD_E_FORMAT, "tokenizer: it has no token for byte 0x%02x of the text", piece[i]);
        ids[n++] = (uint32_t)id;
    }
    *count = n;
    return GRD_OK;
}

/* Joins in place; looks at all ranks each time, which is the fastest way for a word. */
static size_t merge_short(const grd_tokenizer *t, uint32_t *ids, size_t count)
{
    uint32_t ranks[SHORT_PIECE];
    for (size_t i = 0; i + 1 < count; i++)
        ranks[i] = rank_of(t, ids[i], ids[i + 1]);
    while (count > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++)
            if (ranks[i] < ranks[best])
                best = i;
        if (ranks[best] == no_rank)
            break;
        ids[best] = (uint32_t)t->merges.list[ranks[best]].id;
        count--;
        memmove(ids + best + 1, ids + best + 2, (count - best - 1) * sizeof(*ids));
        memmove(ranks + best, ranks + best + 1, (count - best - 1) * sizeof(*ranks));
        if (best > 0)
            ranks[best - 1] = rank_of(t, ids[best - 1], ids[best]);
        if (best + 1 < count)
            ranks[best] = rank_of(t, ids[best], ids[best + 1]);
    }
    return count;
}

/* ---- long pieces: a list of nodes and a heap of (rank, position), so that time grows as n log n ---- */

typedef struct grdi_node {
    uint32_t id, previous, next; /* positions; `end` stands for none */
    bool gone;
} node;

static const uint32_t end = UINT32_MAX;

static void heap_push(uint64_t *heap, size_t *count, uint64_t value)
{
    size_t at = (*count)++;
    for (; at > 0 && value < heap[(at - 1) / 2]; at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = value;
}

static uint64_t heap_pop(uint64_t *heap, size_t *count)
{
    uint64_t top = heap[0], moving = heap[--*count];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < *count; at = child) {
        if (child + 1 < *count && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= moving)
            break;
        heap[at] = heap[child];
    }
    heap[at] = moving;
    return top;
}

static void push_pair(const grd_tokenizer *t, const node *nodes, uint32_t at, uint64_t *heap, size_t *count)
{
    if (at == end || nodes[at].next == end)
        return;
    uint32_t rank = rank_of(t, nodes[at].id, nodes[nodes[at].next].id);
    if (rank != no_rank)
        heap_push(heap, count, (uint64_t)rank << 32 | at);
}

static size_t merge_long(grdi_encoder *encoder, uint32_t *ids, size_t count)
{
    const grd_tokenizer *t = encoder->tokenizer;
    node *nodes = encoder->nodes;
    size_t waiting = 0;
    for (size_t i = 0; i < count; i++)
        nodes[i] = (node){ids[i], i > 0 ? (uint32_t)i - 1 : end, i + 1 < count ? (uint32_t)i + 1 : end, false};
    for (size_t i = 0; i + 1 < count; i++)
        push_pair(t, nodes, (uint32_t)i, encoder->heap, &waiting);
    while (waiting > 0) {
        uint64_t top = heap_pop(encoder->heap, &waiting);
        uint32_t at = (uint32_t)top, rank = (uint32_t)(top >> 32), next = nodes[at].next;
        if (nodes[at].gone || next == end || rank_of(t, nodes[at].id, nodes[next].id) != rank)
            continue; /* a neighbour was joined since */
        nodes[at].id = (uint32_t)t->merges.list[rank].id;
        nodes[at].next = nodes[next].next;
        nodes[next].gone = true;
        if (nodes[at].next != end)
            nodes[nodes[at].next].previous = at;
        push_pair(t, nodes, nodes[at].previous, encoder->heap, &waiting);
        push_pair(t, nodes, at, encoder->heap, &waiting);
    }
    size_t kept = 0;
    for (uint32_t at = count > 0 ? 0 : end; at != end; at = nodes[at].next)
        ids[kept++] = nodes[at].id;
    return kept;
}

/* Room for the nodes, and for the heap: each node brings one entry at the start, each join at most two more. */
static bool reserve_long(grdi_encoder *encoder, size_t count)
{
    if (count > encoder->node_capacity) {
        node *nodes = grdi_realloc(encoder->nodes, count, sizeof(*nodes));
        if (!nodes)
            return false;
        encoder->nodes = nodes;
        encoder->node_capacity = count;
    }
    if (3 * count > encoder->heap_capacity) {
        uint64_t *heap = grdi_realloc(encoder->heap, 3 * count, sizeof(*heap));
        if (!heap)
            return false;
        encoder->heap = heap;
        encoder->heap_capacity = 3 * count;
    }
    return true;
}

grd_status grdi_encoder_merge(grdi_encoder *encoder, const uint8_t *piece, size_t size_bytes, grd_error *error)
{
    const grd_tokenizer *t = encoder->tokenizer;
    uint32_t *ids = encoder->ids + encoder->count;
    size_t count = 0;
    grd_status status = byte_ids(t, piece, size_bytes, ids, &count, error);
    if (status != GRD_OK)
        return status;
    if (t->merges.count > 0 && count <= SHORT_PIECE) {
        count = merge_short(t, ids, count);
    } else if (t->merges.count > 0) {
        if (count >= end || !reserve_long(encoder, count))
            return out_of_memory(error);
        count = merge_long(encoder, ids, count);
    }
    encoder->count += count;
    return GRD_OK;
}
