/* test_stand_ins_attention.c - the stand-in for cuDNN refuses attention that is described or run wrongly: the plugin's
 * own description of it, with one thing spoilt on its way to the library. */
#include "../../cuda/lib/cudnn.h"
#include "../../cuda/lib/library.h"
#include "../../cuda/sim/include/cuda_runtime_api.h"
#include "sim_library.h"

#include <stdlib.h>
#include <string.h>

#define GOOD(call) cr_assert((call) == 0, "%s", SIM(grdi_sim_take_error)())

/* What the plugin would find of the library. */
const char *grdi_library_name(grdi_library library)
{
    (void)library;
    return "the stand-in";
}
bool grdi_library_open(grdi_library library)
{
    return library == GRDI_LIBRARY_CUDNN;
}
void *grdi_library_symbol(grdi_library library, const char *name)
{
    union {
        sim_function function;
        void *pointer;
    } found = {sim_symbol(name)};
    (void)library;
    return found.pointer;
}

enum { B = 2, T = 3, H = 4, KV = 2, D = 8, ATOMICS = 6, IN_ROOM = 7, ROOM = 1 << 16, ALL = 1000 };

static grdi_dnn dnn;
static grdi_attention shape;
static grdi_choices choices;
static char *memory;
static void *pointers[GRDI_DNN_POINTERS];

/* Setting number `nth` of attribute `name` is left out, or gets another value or count; of all of them for ALL. */
static struct spoiling {
    int name, nth, seen;
    const void *elements; /* instead; NULL: those that are given */
    int64_t count;        /* instead; 0: as given, negative: left out */
} spoiling;

static __typeof__(dnn.call.call_cudnnBackendSetAttribute) set_attribute;

static int spoilt(grdi_dnn_descriptor d, int name, int type, int64_t count, const void *elements)
{
    struct spoiling *s = &spoiling;
    if (name != s->name || (s->nth != s->seen++ && s->nth != ALL)) return set_attribute(d, name, type, count, elements);
    if (s->count < 0) return DNN_STATUS_SUCCESS;
    return set_attribute(d, name, type, s->count ? s->count : count, s->elements ? s->elements : elements);
}

/* q, k and v side by side in [B,T,H + 2 KV,D], causal; the rest in rows of their own. */
static void make(void)
{
    cudaStream_t stream;
    GOOD(SIM(cudaStreamCreateWithFlags)(&stream, cudaStreamNonBlocking));
    GOOD(SIM(cudaMalloc)((void **)&memory, (GRDI_DNN_POINTERS + 1) * ROOM));
    GOOD(SIM(cudaMemsetAsync)(memory, 0, (GRDI_DNN_POINTERS + 1) * ROOM, stream));
    shape = (grdi_attention){.batch = B,
                             .heads = H,
                             .kv_heads = KV,
                             .queries = T,
                             .keys = T,
                             .width = D,
                             .value_width = D,
                             .scale = 1,
                             .causal = true};
    for (int i = 0; i < GRDI_ATTENTION_HEADS; i++) {
        int64_t heads = i == GRDI_ATTENTION_OUT || i == GRDI_ATTENTION_G ? H : H + 2 * KV;
        const int64_t strides[] = {T * heads * D, heads * D, D, 1};
        shape.of[i].dtype = GRD_BF16;
        memcpy(shape.of[i].stride, strides, sizeof strides);
    }
    for (int i = 0; i < GRDI_DNN_POINTERS; i++) pointers[i] = memory + i * ROOM;
    dnn = (grdi_dnn){.version = 0};
    spoiling = (struct spoiling){.name = -1};
    grdi_dnn_open(&dnn, (struct CUstream_st *)stream);
    set_attribute = dnn.call.call_cudnnBackendSetAttribute;
    dnn.call.call_cudnnBackendSetAttribute = spoilt;
    SIM(grdi_sim_take_error)();
}

static void drop(void)
{
    grdi_dnn_close(&dnn);
    grdi_choices_free(&choices);
    GOOD(SIM(cudaFree)(memory));
}

TestSuite(stand_ins_attention, .init = make, .fini = drop);

/* The plan, or NULL with what the stand-in said of it. */
static grdi_dnn_plan *planned(bool backward)
{
    shape.backward = backward;
    return grdi_dnn_attention_new(&dnn, &shape, NULL);
}

static void refused(bool backward, const char *why)
{
    grdi_dnn_plan *plan = planned(backward);
    const char *error = SIM(grdi_sim_take_error)();
    cr_assert(!plan, "not refused");
    cr_assert(strstr(error, why) || strstr(dnn.why, why), "neither '%s' nor '%s' says '%s'", error, dnn.why, why);
}

/* The run of a good plan is refused. */
static void run_refused(grdi_dnn_plan *plan, void *workspace, const char *why)
{
    cr_assert(plan, "%s", dnn.why);
    cr_assert(grdi_dnn_plan_bind(plan, pointers, workspace), "%s", dnn.why);
    cr_assert(!grdi_dnn_plan_run(plan, false), "not refused");
    const char *error = SIM(grdi_sim_take_error)();
    cr_assert(strstr(error, why), "'%s' does not say '%s'", error, why);
    grdi_dnn_plan_free(plan);
}

Test(stand_ins_attention, take_a_good_one)
{
    for (int backward = 0; backward < 2; backward++) {
        grdi_dnn_plan *plan = planned(backward);
        cr_assert(plan, "%s", dnn.why);
        cr_assert(grdi_dnn_plan_workspace(plan) == (backward ? B * H * T * T * 2 : 0));
        cr_assert(grdi_dnn_plan_bind(plan, pointers, memory + GRDI_DNN_POINTERS * ROOM));
        cr_assert(grdi_dnn_plan_run(plan, false), "%s", dnn.why);
        grdi_dnn_plan_free(plan);
    }
    sim_is_content();
}

/* ---- descriptions ---- */

Test(stand_ins_attention, refuse_a_product_without_an_operand)
{
    spoiling = (struct spoiling){.name = DNN_ATTR_OPERATION_MATMUL_BDESC, .count = -1};
    refused(false, "a product lacks a part");
}

Test(stand_ins_attention, refuse_a_reduction_that_does_not_say_what_it_is)
{
    spoiling = (struct spoiling){.name = DNN_ATTR_REDUCTION_OPERATOR, .count = -1};
    refused(false, "does not say what it is");
}

Test(stand_ins_attention, refuse_places_along_no_axis)
{
    spoiling = (struct spoiling){.name = DNN_ATTR_POINTWISE_AXIS, .nth = 1, .count = -1};
    refused(false, "of no axis");
}

Test(stand_ins_attention, refuse_to_choose_without_a_condition)
{
    spoiling = (struct spoiling){.name = DNN_ATTR_OPERATION_POINTWISE_TDESC, .count = -1};
    refused(false, "more operands than its mode, or fewer");
}

Test(stand_ins_attention, refuse_products_that_are_not_made_in_f32)
{
    static const int half = DNN_DATA_HALF;
    spoiling = (struct spoiling){.name = DNN_ATTR_MATMUL_COMP_TYPE, .elements = &half};
    refused(true, "does not compute in f32");
}

Test(stand_ins_attention, refuse_heads_that_do_not_fit)
{
    shape.kv_heads = 3;
    refused(false, "heads of a product do not fit");
}

Test(stand_ins_attention, refuse_tensors_of_other_sizes)
{
    static const int64_t dims[] = {B, H, T + 1, D};
    spoiling = (struct spoiling){.name = DNN_ATTR_TENSOR_DIMENSIONS, .nth = 5, .elements = dims}; /* out's */
    refused(false, "sizes or types of a product do not fit");
}

/* No rule of the interface, but what no engine takes. */
Test(stand_ins_attention, refuse_rows_with_gaps_inside)
{
    static const int64_t strides[] = {T * H * D * 2, D * 2, H * D * 2, 2};
    spoiling = (struct spoiling){.name = DNN_ATTR_TENSOR_STRIDES, .nth = 5, .elements = strides};
    refused(false, "no engine takes");
}

Test(stand_ins_attention, refuse_a_tensor_that_is_written_twice)
{
    static const int64_t id = 128; /* of the product's result before */
    spoiling = (struct spoiling){.name = DNN_ATTR_TENSOR_UNIQUE_ID, .nth = 7, .elements = &id};
    refused(false, "is written twice");
}

/* ---- engines ---- */

Test(stand_ins_attention, do_not_let_a_kept_choice_add_in_any_order)
{
    char algorithm[8], call[GRDI_CHOICE_TEXT];
    dnn.choices = &choices;
    grdi_dnn_plan *plan = planned(true);
    cr_assert(plan && choices.count == 1 && atoi(choices.list[0]->algorithm) == IN_ROOM, "%s", dnn.why);
    grdi_dnn_plan_free(plan);
    snprintf(algorithm, sizeof algorithm, "%d", ATOMICS);
    snprintf(call, sizeof call, "%s", choices.list[0]->call);
    grdi_choices_put(&choices, call, algorithm);
    plan = planned(true);
    cr_assert(plan && atoi(choices.list[0]->algorithm) == IN_ROOM, "engine %s: %s", choices.list[0]->algorithm,
              dnn.why);
    grdi_dnn_plan_free(plan);
    sim_is_content();
}

/* With room for dq in f32, which all blocks of keys add to. */
Test(stand_ins_attention, add_in_any_order_where_they_may)
{
    dnn.choices = &choices;
    dnn.any_order = true;
    grdi_dnn_plan *plan = planned(true);
    cr_assert(plan && atoi(choices.list[0]->algorithm) == ATOMICS, "%s", dnn.why);
    cr_assert(grdi_dnn_plan_workspace(plan) == 0);
    cr_assert(grdi_dnn_plan_bytes(plan, GRDI_ATTENTION_DQ_SUMS) == B * H * T * D * sizeof(float));
    cr_assert(grdi_dnn_plan_bind(plan, pointers, NULL));
    cr_assert(!grdi_dnn_plan_run(plan, false), "a test that does not expect it is not told");
    cr_assert(strstr(SIM(grdi_sim_take_error)(), "differ from run to run"));
    SIM(grdi_sim_allow_any_order)(1);
    cr_assert(grdi_dnn_plan_run(plan, false), "%s", dnn.why);
    grdi_dnn_plan_free(plan);
    sim_is_content();
}

/* Probabilities of 64 x 12 x 1024 x 1024 in bf16 are 1.6 GB: nobody's engine, which is kept, too. */
Test(stand_ins_attention, leave_quadratic_room_to_others)
{
    dnn.choices = &choices;
    shape.batch = 64, shape.heads = shape.kv_heads = 12, shape.queries = shape.keys = 1024;
    refused(true, "a workspace of 1610612736 bytes");
    cr_assert(choices.count == 1 && strcmp(choices.list[0]->algorithm, "own") == 0);
    refused(true, "was not chosen before");
}

/* ---- runs ---- */

Test(stand_ins_attention, refuse_a_workspace_that_is_too_small)
{
    char *little;
    shape.queries = shape.keys = 16;
    GOOD(SIM(cudaMalloc)((void **)&little, B * H * 16 * 16 * 2 - 64));
    run_refused(planned(true), little, "the workspace of");
    GOOD(SIM(cudaFree)(little));
}

Test(stand_ins_attention, refuse_rows_without_their_statistics)
{
    grdi_dnn_plan *plan = planned(true);
    pointers[GRDI_ATTENTION_LSE] = NULL;
    cr_assert(plan && !grdi_dnn_plan_bind(plan, pointers, memory), "the plugin binds it");
    static char outside[4096] __attribute__((aligned(16)));
    pointers[GRDI_ATTENTION_LSE] = outside;
    run_refused(plan, memory + GRDI_DNN_POINTERS * ROOM, "does not lie within one allocation");
}

Test(stand_ins_attention, refuse_sums_that_lie_where_something_is_read)
{
    pointers[GRDI_ATTENTION_DELTA] = (char *)pointers[GRDI_ATTENTION_LSE] + 16;
    run_refused(planned(true), memory + GRDI_DNN_POINTERS * ROOM, "a result lies where another tensor does");
}

Test(stand_ins_attention, refuse_pointers_that_are_left_out)
{
    grdi_dnn_plan *plan = planned(false);
    int64_t tensors = GRDI_ATTENTION_G; /* q, k, v and out, without lse and the numbers behind it */
    spoiling = (struct spoiling){.name = DNN_ATTR_VARIANT_PACK_UNIQUE_IDS, .count = tensors};
    cr_assert(plan && !grdi_dnn_plan_bind(plan, pointers, NULL), "more pointers than ids are bound");
    cr_assert(strstr(SIM(grdi_sim_take_error)(), "more pointers than ids"));
    grdi_dnn_plan_free(plan);
}

Test(stand_ins_attention, refuse_numbers_on_the_device)
{
    grdi_dnn_plan *plan = planned(false);
    void *given[GRDI_DNN_POINTERS];
    for (int i = 0; i < GRDI_DNN_POINTERS; i++) given[i] = memory + i * ROOM;
    spoiling = (struct spoiling){.name = DNN_ATTR_VARIANT_PACK_DATA_POINTERS, .elements = given};
    run_refused(plan, NULL, "does not lie in the host's memory");
}

Test(stand_ins_attention, refuse_numbers_that_are_missing)
{
    static const int64_t ids[] = {1, 2, 3, 4, 9, 20, 21};
    spoiling = (struct spoiling){.name = DNN_ATTR_VARIANT_PACK_UNIQUE_IDS, .elements = ids};
    run_refused(planned(false), NULL, "a number has no pointer");
}

Test(stand_ins_attention, refuse_scores_that_are_to_lie_somewhere)
{
    spoiling = (struct spoiling){.name = DNN_ATTR_TENSOR_IS_VIRTUAL, .count = -1};
    run_refused(planned(false), NULL, "a tensor is NULL");
}

Test(stand_ins_attention, refuse_a_pointer_between_16_bytes)
{
    grdi_dnn_plan *plan = planned(false);
    pointers[GRDI_ATTENTION_Q] = memory + 8;
    cr_assert(plan && !grdi_dnn_plan_bind(plan, pointers, NULL));
    grdi_dnn_plan_free(plan);
}
