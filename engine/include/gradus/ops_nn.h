/* ops_nn.h - normalisation, attention and losses.
 *
 * Letters: B batch, T query length, S key length, H heads, D head size, C channels, V classes or vocabulary, N rows.
 * Floats are f32 (f64 for checks); all float inputs of one call have one dtype. Nothing here takes ownership. Errors
 * are kept by the graph (see graph.h): every call returns the poison tensor after one. Optional tensors stand in the
 * options; left out they are absent. Backward ops ("layer_norm_backward", ...) are reached by name with grd_call();
 * autodiff emits them. */
#ifndef GRADUS_OPS_NN_H
#define GRADUS_OPS_NN_H

#include <gradus/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- softmax ---- */

/* exp(x_i) / sum_j exp(x_j) along `axis` (negative: from the end), computed after taking away the maximum. Shape of
 * x. */
GRD_API grd_tensor grd_softmax(grd_tensor x, int32_t axis);
/* x_i - log(sum_j exp(x_j)) along `axis`. Shape of x. */
GRD_API grd_tensor grd_log_softmax(grd_tensor x, int32_t axis);

/* ---- normalisation over the last axis ---- */

typedef struct grd_norm_options {
    size_t size;
    grd_tensor gain;    /* [C], multiplied onto the normalised value; absent: 1 */
    grd_tensor bias;    /* [C], added after that; absent: 0. layer_norm only: an error with rms_norm */
    double eps;         /* added to the variance or mean square; 0: 1e-5 (layer_norm), 1e-6 (rms_norm) */
} grd_norm_options;

/* (x - mean) / sqrt(variance + eps) * gain + bias over the last axis of x [...,C]; variance divides by C. Shape of x.
 * Ba, Kiros, Hinton, "Layer normalization", 2016. Example: grd_layer_norm(x, .gain = gain, .bias = bias). */
GRD_API grd_tensor grd_layer_norm_with(grd_tensor x, const grd_norm_options *options);
#define grd_layer_norm(...) GRD_LAYER_NORM_(__VA_ARGS__, .size = sizeof(grd_norm_options))
#define GRD_LAYER_NORM_(x, ...) grd_layer_norm_with(x, &(grd_norm_options){__VA_ARGS__})

/* x / sqrt(mean(x^2) + eps) * gain over the last axis of x [...,C]. Shape of x.
 * Zhang, Sennrich, "Root mean square layer normalization", 2019. */
GRD_API grd_tensor grd_rms_norm_with(grd_tensor x, const grd_norm_options *options);
#define grd_rms_norm(...) GRD_RMS_NORM_(__VA_ARGS__, .size = sizeof(grd_norm_options))
#define GRD_RMS_NORM_(x, ...) grd_rms_norm_with(x, &(grd_norm_options){__VA_ARGS__})

/* ---- attention ---- */

typedef struct grd_rope_options {
    size_t size;
    bool inverse;       /* turns by minus the angle */
    bool interleaved;   /* pairs (2i, 2i+1), as in GPT-J; else (i, i + D/2), as in Hugging Face's Llama */
} grd_rope_options;

/* Rotary position embedding: each pair (a, b) of x [B,T,H,D] becomes (a cos - b sin, b cos + a sin), where cos and
 * sin, both [T,D/2] or both [B,T,D/2], hold cosine and sine of position t times frequency i. Shape of x; D is even.
 * Su et al., "RoFormer: enhanced transformer with rotary position embedding", 2021. */
GRD_API grd_tensor grd_rope_with(grd_tensor x, grd_tensor cosines, grd_tensor sines, const grd_rope_options *options);
#define grd_rope(...) GRD_ROPE_(__VA_ARGS__, .size = sizeof(grd_rope_options))
#define GRD_ROPE_(x, cosines, sines, ...) grd_rope_with(x, cosines, sines, &(grd_rope_options){__VA_ARGS__})

typedef struct grd_attention_options {
    size_t size;
    bool causal;          /* query i sees key j only if j <= i + (S - T): aligned at the end */
    int32_t window;       /* w > 0: query i sees key j only if also j > i + (S - T) - w; 0: no limit */
    double scale;         /* of the products q.k; 0: 1/sqrt(D) */
    grd_tensor mask;      /* float, added to the scaled products; any shape that broadcasts to [B,H,T,S]; may hold
                           * -infinity */
    grd_tensor segments;  /* i32 [n+1], non-decreasing offsets of packed documents, needs B = 1 and T = S: token t
                           * belongs to document "number of offsets <= t"; a query sees only keys of its own document.
                           * Repeated offsets are empty documents */
    grd_tensor *lse;      /* if not NULL: receives log(sum_j exp(score_j)), [B,H,T] */
} grd_attention_options;

/* Scaled dot-product attention: out[b,i,h] = sum_j softmax_j(scale * q[b,i,h].k[b,j,g] + mask[b,h,i,j]) v[b,j,g] over
 * the visible keys j, with g = h / (H / Hkv) (grouped queries; H is a multiple of Hkv). q [B,T,H,D], k [B,S,Hkv,D], v
 * [B,S,Hkv,Dv] -> [B,T,H,Dv]. A query that sees no key gives zeros (and lse = -infinity). Vaswani et al., "Attention
 * is all you need", 2017; Ainslie et al., "GQA", 2023; window: Beltagy et al., "Longformer", 2020. */
GRD_API grd_tensor grd_attention_with(grd_tensor q, grd_tensor k, grd_tensor v, const grd_attention_options *options);
#define grd_attention(...) GRD_ATTENTION_(__VA_ARGS__, .size = sizeof(grd_attention_options))
#define GRD_ATTENTION_(q, k, v, ...) grd_attention_with(q, k, v, &(grd_attention_options){__VA_ARGS__})

typedef struct grd_cached_attention_options {
    size_t size;
    int32_t window;       /* w > 0: only the last w tokens are seen; 0: no limit */
    double scale;         /* of the products q.k; 0: 1/sqrt(D) */
} grd_cached_attention_options;

/* Attention of T new tokens, the first at `position` (i32 [1]), over all tokens so far: their keys k [B,T,Hkv,D] and
 * values v [B,T,Hkv,Dv] take the rows position .. position + T - 1 of *k_cache [B,S,Hkv,D] and *v_cache [B,S,Hkv,Dv]
 * (rows that do not exist are left out), and query i of q [B,T,H,D] sees the rows j <= position + i (with a window also
 * j > position + i - w), as in grd_attention -> [B,T,H,Dv]. *k_cache and *v_cache become the caches with the new rows:
 * grd_assign them to the states that they came from, which then costs no copy. */
GRD_API grd_tensor grd_cached_attention_with(grd_tensor q, grd_tensor k, grd_tensor v, grd_tensor *k_cache,
                                             grd_tensor *v_cache, grd_tensor position,
                                             const grd_cached_attention_options *options);
#define grd_cached_attention(...) GRD_CACHED_ATTENTION_(__VA_ARGS__, .size = sizeof(grd_cached_attention_options))
#define GRD_CACHED_ATTENTION_(q, k, v, k_cache, v_cache, position, ...)                                                \
    grd_cached_attention_with(q, k, v, k_cache, v_cache, position, &(grd_cached_attention_options){__VA_ARGS__})

/* ---- dropout ---- */

/* Keeps element i (row-major) of x where uniform(i) >= p, scaled by 1/(1-p), else 0. 0 <= p < 1; p = 0 returns x
 * itself. `key`: i32 [4] = {seed low, seed high, step, micro-batch}; uniform(i) are the 24 random bits, over 2^24,
 * that random_uniform gives for the same key and this node's scope path. Shape of x. Srivastava et al., "Dropout",
 * 2014. */
GRD_API grd_tensor grd_dropout(grd_tensor x, grd_tensor key, double p);

/* ---- classification losses ---- */

typedef struct grd_cross_entropy_options {
    size_t size;
    int32_t ignore_index;     /* positions with this target have loss 0 and no gradient; 0 means -100 (see
                               * ignore_zero) */
    bool ignore_zero;         /* the ignored target is 0 */
    double label_smoothing;   /* e in 0..1: the wanted distribution is (1-e) at the target plus e/V everywhere */
    double z_loss;            /* adds z_loss * lse^2 (Chowdhery et al., "PaLM", 2022) */
    double softcap;           /* c > 0: logits become c * tanh(logits / c) first; grd_linear_cross_entropy only */
    grd_tensor *losses;       /* if not NULL: grd_linear_cross_entropy stores the losses [N], not scaled, there */
} grd_cross_entropy_options;

/* Losses [...] of logits [...,V] and targets i32 [...]: lse - (1-e) logit[target] - e mean(logits) + z_loss lse^2,
 * where lse = log(sum exp(logits)), e = label_smoothing; 0 where ignored, NaN where a target is outside 0..V-1. Not
 * reduced. */
GRD_API grd_tensor grd_cross_entropy_with(grd_tensor logits, grd_tensor targets,
                                          const grd_cross_entropy_options *options);
#define grd_cross_entropy(...) GRD_CROSS_ENTROPY_(__VA_ARGS__, .size = sizeof(grd_cross_entropy_options))
#define GRD_CROSS_ENTROPY_(logits, targets, ...)                                                                       \
    grd_cross_entropy_with(logits, targets, &(grd_cross_entropy_options){__VA_ARGS__})

/* The sum of those losses divided by the number of targets that are not ignored (at least 1): a scalar. */
GRD_API grd_tensor grd_cross_entropy_mean_with(grd_tensor logits, grd_tensor targets,
                                               const grd_cross_entropy_options *options);
#define grd_cross_entropy_mean(...) GRD_CROSS_ENTROPY_MEAN_(__VA_ARGS__, .size = sizeof(grd_cross_entropy_options))
#define GRD_CROSS_ENTROPY_MEAN_(logits, targets, ...)                                                                  \
    grd_cross_entropy_mean_with(logits, targets, &(grd_cross_entropy_options){__VA_ARGS__})

/* scale * sum of the cross-entropy losses of logits = x w^T, a scalar: x [N,C], w [V,C], targets i32 [N], scale a
 * scalar tensor (say 1 / number of valid targets). All logits are never held at once, and the gradients are computed
 * on the way forward. */
GRD_API grd_tensor grd_linear_cross_entropy_with(grd_tensor x, grd_tensor w, grd_tensor targets, grd_tensor scale,
                                                 const grd_cross_entropy_options *options);
#define grd_linear_cross_entropy(...) GRD_LINEAR_CROSS_ENTROPY_(__VA_ARGS__, .size = sizeof(grd_cross_entropy_options))
#define GRD_LINEAR_CROSS_ENTROPY_(x, w, targets, scale, ...)                                                           \
    grd_linear_cross_entropy_with(x, w, targets, scale, &(grd_cross_entropy_options){__VA_ARGS__})

/* ---- element-wise losses: not reduced; inputs broadcast; gradients flow to both ---- */

/* (prediction - target)^2 */
GRD_API grd_tensor grd_mse(grd_tensor prediction, grd_tensor target);
/* |prediction - target| */
GRD_API grd_tensor grd_l1(grd_tensor prediction, grd_tensor target);
/* d^2/2 where |d| <= delta, else delta (|d| - delta/2), with d = prediction - target; delta > 0 (Huber, 1964). */
GRD_API grd_tensor grd_huber(grd_tensor prediction, grd_tensor target, double delta);
/* Binary cross-entropy of sigmoid(logits) with target in 0..1: max(x,0) - x target + log(1 + exp(-|x|)). */
GRD_API grd_tensor grd_bce_with_logits(grd_tensor logits, grd_tensor target);
/* target (log(target) - log_probability), 0 where target is 0: the terms of the Kullback-Leibler divergence KL(target
 * || model). */
GRD_API grd_tensor grd_kl_div(grd_tensor log_probability, grd_tensor target);
/* grd_bce_with_logits times (1 - p_t)^gamma, p_t being the probability that sigmoid(logits) gives to the target; with
 * alpha >= 0 also times alpha where the target is 1, 1 - alpha where it is 0 (between those in between). gamma >= 0,
 * alpha <= 1. Lin et al., "Focal loss for dense object detection", 2017: gamma 2, alpha 0.25; as
 * torchvision.ops.sigmoid_focal_loss. */
GRD_API grd_tensor grd_focal(grd_tensor logits, grd_tensor target, double gamma, double alpha);

typedef struct grd_ctc_options {
    size_t size;
    int32_t blank;      /* the class that stands for no label */
    bool zero_infinity; /* a sequence that no path spells, as its time is too short, has loss 0 instead of infinity */
} grd_ctc_options;

/* -log of the probability that `targets`, i32 [B,S], are what is read off log_probs [B,T,C] (of each class at each
 * step; see grd_log_softmax): the sum over all paths of one label a step that give the targets when repetitions are
 * merged and then blanks left out. Only the first input_lengths[b] steps and target_lengths[b] labels count (both i32
 * [B]); S is at most 1023. To losses [B]: infinity where no path exists, NaN where a length or a label that counts is
 * out of range; neither has a gradient. Graves et al., "Connectionist temporal classification", 2006; as
 * torch.nn.functional.ctc_loss without reduction, which takes log_probs as [T,B,C], and whose gradient by log_probs is
 * only right behind a log_softmax. */
GRD_API grd_tensor grd_ctc_with(grd_tensor log_probs, grd_tensor targets, grd_tensor input_lengths,
                                grd_tensor target_lengths, const grd_ctc_options *options);
#define grd_ctc(...) GRD_CTC_(__VA_ARGS__, .size = sizeof(grd_ctc_options))
#define GRD_CTC_(log_probs, targets, input_lengths, target_lengths, ...)                                               \
    grd_ctc_with(log_probs, targets, input_lengths, target_lengths, &(grd_ctc_options){__VA_ARGS__})

/* ---- how near vectors lie to each other: losses and similarities are not reduced ---- */

/* a.b / (max(|a|, eps) max(|b|, eps)) along `axis` (negative: from the end), which is dropped; a and b broadcast. eps
 * 0: 1e-8. As torch.nn.functional.cosine_similarity; where a length is below eps no gradient flows through it. */
GRD_API grd_tensor grd_cosine_similarity(grd_tensor a, grd_tensor b, int32_t axis, double eps);
/* With the cosine of a and b [...,C] along the last axis: 1 - cosine where `same` [...] (a number of any dtype) is 1,
 * max(0, cosine - margin) where it is -1, else 0. As torch.nn.functional.cosine_embedding_loss. */
GRD_API grd_tensor grd_cosine_embedding(grd_tensor a, grd_tensor b, grd_tensor same, double margin);

typedef struct grd_triplet_options {
    size_t size;
    double margin; /* above 0; 0 means 1 */
    double p;      /* of the norm, 1 or more; 0 means 2 */
    double eps;    /* added to each difference; 0 means 1e-6 */
    bool swap;     /* the negative's distance from anchor or positive, whichever is smaller (Balntas et al., 2016) */
} grd_triplet_options;

/* max(0, d(anchor, positive) - d(anchor, negative) + margin), d(a, b) = |a - b + eps|_p over the last axis: three
 * [...,C] to [...]. Schroff et al., "FaceNet", 2015; as torch.nn.functional.triplet_margin_loss. */
GRD_API grd_tensor grd_triplet_with(grd_tensor anchor, grd_tensor positive, grd_tensor negative,
                                    const grd_triplet_options *options);
#define grd_triplet(...) GRD_TRIPLET_(__VA_ARGS__, .size = sizeof(grd_triplet_options))
#define GRD_TRIPLET_(anchor, positive, negative, ...)                                                                  \
    grd_triplet_with(anchor, positive, negative, &(grd_triplet_options){__VA_ARGS__})

#ifdef __cplusplus
}
#endif
#endif
