/* nn.h - layers and models. Each layer makes its parameters under the graph's scope: grd_linear(x, "fc1", 256) makes
 * "fc1/weight" and "fc1/bias". All are built from the public calls of graph.h and ops.h; yours can be too. */
#ifndef GRADUS_NN_H
#define GRADUS_NN_H

#include <gradus/ops.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- layers ---- */

typedef struct grd_linear_options {
    size_t size;
    bool no_bias;
    grd_activation activation; /* fused into the product's last pass */
    double init_std; /* weight ~ N(0, init_std) and bias 0; 0: both uniform in +-1/sqrt(inputs), as torch.nn.Linear */
    int32_t blocks;  /* of the weight's rows, see grd_parameter_options */
    bool zero_init;  /* weight and bias start at 0 */
} grd_linear_options;

/* y = activation(x W^T + b): x [...,K] gives [...,features]; parameters name/weight [features,K] and name/bias
 * [features]. */
GRD_API grd_tensor grd_linear_with(grd_tensor x, const char *name, int64_t features, const grd_linear_options *options);
#define grd_linear(...) GRD_LINEAR_(__VA_ARGS__, .size = sizeof(grd_linear_options))
#define GRD_LINEAR_(x, name, features, ...) grd_linear_with(x, name, features, &(grd_linear_options){__VA_ARGS__})

/* Rows of the table name/weight [vocab,width], N(0, std) at first (std 0: 1, as torch.nn.Embedding): ids i32 [...] give
 * [...,width]. */
GRD_API grd_tensor grd_embed(grd_tensor ids, const char *name, int64_t vocab, int64_t width, double std);

typedef enum grd_norm_kind { GRD_NORM_LAYERNORM = 0, GRD_NORM_RMSNORM } grd_norm_kind;

/* Normalises the last axis; parameters name/weight (ones; absent with `no_gain`) and, for LayerNorm with `bias`,
 * name/bias (zeros). eps 0: 1e-5 (LayerNorm), 1e-6 (RMSNorm). */
GRD_API grd_tensor grd_norm(grd_tensor x, const char *name, grd_norm_kind kind, double eps, bool no_gain, bool bias);

/* What a network drops of its hidden values in training; a zeroed one, and one without a key: nothing. */
typedef struct grd_drop {
    double p;       /* the part of the values, 0 <= p < 1 */
    grd_tensor key; /* i32 [4], see grd_dropout */
} grd_drop;

/* grd_dropout of x [...] under the scope `name`, or x itself where nothing is dropped. `drop` may be NULL. */
GRD_API grd_tensor grd_drop_some(grd_tensor x, const char *name, const grd_drop *drop);

/* ---- layers for images, volumes and series: x [N,S..,C], see ops_spatial.h ---- */

typedef struct grd_conv_options {
    size_t size;
    bool no_bias;
    int64_t stride, padding, dilation, groups;               /* as in grd_convolution_options, of all spatial axes */
    const int64_t *kernels, *strides, *paddings, *dilations; /* instead, one for each spatial axis */
    bool he_init; /* weight ~ N(0, sqrt(2 / (channels taps))), bias 0 (He et al. 2015, fan-out); else both uniform in
                     +-1/sqrt(inputs taps / groups), as torch.nn.Conv2d */
    grd_padding_mode padding_mode; /* what `padding` puts around x, see grd_pad_edges; zeros else */
    int64_t output_padding;        /* grd_conv_transposed only, see grd_convolution_options */
} grd_conv_options;

/* A convolution to `channels` channels, over as many spatial axes as x has. Parameters name/weight
 * [channels,C/groups,K..] and name/bias [channels]. */
GRD_API grd_tensor grd_conv_with(grd_tensor x, const char *name, int64_t channels, int64_t kernel,
                                 const grd_conv_options *options);
#define grd_conv(...) GRD_CONV_(__VA_ARGS__, .size = sizeof(grd_conv_options))
#define GRD_CONV_(x, name, channels, kernel, ...)                                                                      \
    grd_conv_with(x, name, channels, kernel, &(grd_conv_options){__VA_ARGS__})

/* A transposed convolution (grd_transposed_convolution) to `channels` channels. Parameters name/weight
 * [C,channels/groups,K..] and name/bias [channels], both uniform in +-1/sqrt(channels taps / groups), as
 * torch.nn.ConvTranspose2d. It pads with zeros only and has no he_init. */
GRD_API grd_tensor grd_conv_transposed_with(grd_tensor x, const char *name, int64_t channels, int64_t kernel,
                                            const grd_conv_options *options);
#define grd_conv_transposed(...) GRD_CONV_TRANSPOSED_(__VA_ARGS__, .size = sizeof(grd_conv_options))
#define GRD_CONV_TRANSPOSED_(x, name, channels, kernel, ...)                                                           \
    grd_conv_transposed_with(x, name, channels, kernel, &(grd_conv_options){__VA_ARGS__})

typedef struct grd_batch_norm_options {
    size_t size;
    double eps, momentum; /* 0: 1e-5 and 0.1 */
    bool zero_gain;       /* name/weight starts as zeros: the last norm of a residual branch */
} grd_batch_norm_options;

/* Batch normalisation of each channel: in training by the batch's own statistics, which also move the states
 * name/running_mean and name/running_var; else by those states. Parameters name/weight (ones) and name/bias (zeros). As
 * torch.nn.BatchNorm1d, 2d and 3d. */
GRD_API grd_tensor grd_batch_norm_with(grd_tensor x, const char *name, bool training,
                                       const grd_batch_norm_options *options);
#define grd_batch_norm(...) GRD_BATCH_NORM_(__VA_ARGS__, .size = sizeof(grd_batch_norm_options))
#define GRD_BATCH_NORM_(x, name, training, ...)                                                                        \
    grd_batch_norm_with(x, name, training, &(grd_batch_norm_options){__VA_ARGS__})

/* ---- recurrent layers: x [B,T,I] to the states of all steps [B,T,size] ---- */

typedef struct grd_recurrent_options {
    size_t size;
    bool no_bias, relu; /* relu: grd_rnn only, instead of tanh */
    bool reverse;       /* from the last step to the first; step t of the result still belongs to step t of x */
    grd_tensor h, c;    /* [B,size], the state before the first step; absent: zeros. c: grd_lstm only */
    grd_tensor *last_h, *last_c; /* if not NULL: receive the state after the last step, [B,size] */
    grd_tensor lengths; /* i32 [B], 1 to T: how many steps each series has; absent: T. What x holds behind them has no
                           effect and the result is 0 there, `reverse` begins at each series' own last step, and last_h
                           and last_c are those behind it: as torch.nn.utils.rnn.pack_padded_sequence. A series of
                           another length has NaN for its results, so that a step fails and names name/lengths */
} grd_recurrent_options;

/* One layer in one direction, as torch.nn.LSTM, GRU and RNN (batch_first). Parameters name/weight_ih [gates size,I],
 * name/weight_hh [gates size,size], name/bias_ih and name/bias_hh [gates size], all uniform in +-1/sqrt(size) at first;
 * gates in PyTorch's order. More layers: one after another; both directions: grd_concat of two, one with `reverse`. */
GRD_API grd_tensor grd_lstm_with(grd_tensor x, const char *name, int64_t size, const grd_recurrent_options *options);
#define grd_lstm(...) GRD_LSTM_(__VA_ARGS__, .size = sizeof(grd_recurrent_options))
#define GRD_LSTM_(x, name, size_, ...) grd_lstm_with(x, name, size_, &(grd_recurrent_options){__VA_ARGS__})
GRD_API grd_tensor grd_gru_with(grd_tensor x, const char *name, int64_t size, const grd_recurrent_options *options);
#define grd_gru(...) GRD_GRU_(__VA_ARGS__, .size = sizeof(grd_recurrent_options))
#define GRD_GRU_(x, name, size_, ...) grd_gru_with(x, name, size_, &(grd_recurrent_options){__VA_ARGS__})
GRD_API grd_tensor grd_rnn_with(grd_tensor x, const char *name, int64_t size, const grd_recurrent_options *options);
#define grd_rnn(...) GRD_RNN_(__VA_ARGS__, .size = sizeof(grd_recurrent_options))
#define GRD_RNN_(x, name, size_, ...) grd_rnn_with(x, name, size_, &(grd_recurrent_options){__VA_ARGS__})

/* ---- networks for images: x [N,H,W,C] to logits [N,classes] ---- */

/* conv1 3x3 to `width` channels (0: 32), ReLU, conv2 3x3 to twice that, ReLU, maximum of 2x2, fc1 to four times the
 * width, ReLU, fc2 to the classes. */
GRD_API grd_tensor grd_lenet(grd_tensor x, int64_t classes, int64_t width);

/* The same with dropout of what goes into fc2. `drop` may be NULL. */
GRD_API grd_tensor grd_lenet_with(grd_tensor x, int64_t classes, int64_t width, const grd_drop *drop);

typedef enum grd_resnet_depth { GRD_RESNET18 = 0, GRD_RESNET34, GRD_RESNET50 } grd_resnet_depth;

typedef struct grd_resnet {
    grd_resnet_depth depth;
    int64_t classes, width; /* width of the first stage; 0: 64 */
    bool imagenet_stem;     /* 7x7 with stride 2 and a maximum of 3x3 with stride 2; else 3x3 (for CIFAR's 32x32) */
    bool training;          /* see grd_batch_norm */
    grd_drop drop;          /* of what goes into the head */
} grd_resnet;

/* He et al., "Deep residual learning for image recognition", 2015, with the stride in the 3x3 convolution. Parameters:
 * stem, stem_norm, stage<i>/block<j>/conv1, norm1, conv2, norm2 (conv3, norm3), skip, skip_norm, head. */
GRD_API grd_tensor grd_resnet_logits(grd_tensor x, const grd_resnet *net);

/* A vision transformer. A zeroed field takes the default in brackets. */
typedef struct grd_vit {
    int32_t layers, heads;    /* [6, 3] */
    int64_t width, mlp_width; /* [192, 4 width] */
    int64_t patch;            /* side of the squares that images are cut into [the largest that leaves 36] */
    int64_t classes;
    bool mean_pool; /* the head sees the mean of all patches, else a class token that stands before them */
    double dropout; /* after the embedding, attention and MLP; needs a key */
} grd_vit;

/* Fills in the defaults for images of that size; an error message names the key that does not fit: a patch that does
 * not divide the sides, heads that do not divide the width, no classes. */
GRD_API grd_status grd_vit_resolve(grd_vit *net, int64_t height, int64_t width, grd_error *error);
/* Dosovitskiy et al., "An image is worth 16x16 words", 2021, in the base form: patches by a convolution of their size,
 * learned positions, blocks with LayerNorm in front (eps 1e-6), exact GELU and biases, a head of zeros at first. `net`
 * is resolved; `key` as in grd_gpt_hidden. Parameters: patch, class_token, position/weight, those of grd_gpt_blocks,
 * head. */
GRD_API grd_tensor grd_vit_logits(grd_tensor x, const grd_vit *net, grd_tensor key);

/* ---- networks for series: x [B,T,C], the steps up to now, to what comes next [B,horizon] ---- */

/* Dilated causal convolutions in residual blocks: block i, from 1, has a dilation of 2^(i-1), and is relu(x +
 * relu(conv2(relu(conv1(x))))), each convolution over the step itself and `kernel` - 1 steps before it; where widths
 * differ x passes a convolution of one step first. [B,T,C] to [B,T,width]; a step sees
 * 1 + 2 (kernel - 1) (2^blocks - 1) of them. Parameters: layer<i>/conv1, conv2, skip. Bai et al., "An empirical
 * evaluation of generic convolutional and recurrent networks for sequence modeling", 2018, without weight normalisation
 * and dropout. */
GRD_API grd_tensor grd_tcn(grd_tensor x, int64_t width, int32_t blocks, int64_t kernel);
/* The fewest blocks with which the last of `steps` steps sees the first one. */
GRD_API int32_t grd_tcn_blocks(int64_t steps, int64_t kernel);

typedef enum grd_forecaster_kind {
    GRD_FORECASTER_LSTM = 0,
    GRD_FORECASTER_GRU,
    GRD_FORECASTER_TCN,
    GRD_FORECASTER_LINEAR /* of all values of all steps */
} grd_forecaster_kind;

typedef struct grd_forecaster {
    grd_forecaster_kind kind;
    int32_t layers; /* 0: 1; of a TCN as many blocks as it takes to see all steps */
    int64_t width;  /* of the states; 0: 32 */
    int64_t horizon;
    bool zero_head; /* all outputs are 0 at first: for what is added to another forecast */
    grd_drop drop;  /* of what goes into the head; of recurrent layers into each but the first, too (as torch's) */
} grd_forecaster;

/* The last step's state, or for LINEAR all steps one after the other, through a linear layer to `horizon` values.
 * Parameters: layer<i>/..., see grd_lstm, grd_gru and grd_tcn (with a kernel of 3), and head. */
GRD_API grd_tensor grd_forecaster_values(grd_tensor x, const grd_forecaster *net);

/* ---- multi-layer perceptron ---- */

/* widths[0..count-1) hidden layers with ReLU, then a linear layer to widths[count-1]: "fc1", "fc2", ... */
GRD_API grd_tensor grd_mlp(grd_tensor x, const int64_t *widths, int32_t count);
/* The same with dropout behind each ReLU. `drop` may be NULL. */
GRD_API grd_tensor grd_mlp_with(grd_tensor x, const int64_t *widths, int32_t count, const grd_drop *drop);

/* ---- transformer language models ---- */

typedef enum grd_mlp_kind { GRD_MLP_GELU = 0, GRD_MLP_GELU_TANH, GRD_MLP_SWIGLU, GRD_MLP_RELU2 } grd_mlp_kind;
typedef enum grd_position_kind { GRD_POSITION_LEARNED = 0, GRD_POSITION_ROPE } grd_position_kind;
typedef enum grd_rope_scaling_kind { GRD_ROPE_PLAIN = 0, GRD_ROPE_LINEAR, GRD_ROPE_LLAMA3 } grd_rope_scaling_kind;

/* All that tells one decoder-only transformer from another. A zeroed field takes the default in brackets. */
typedef struct grd_gpt {
    int32_t layers, heads, kv_heads; /* kv_heads [heads] */
    int64_t width, head_dim;         /* head_dim [width / heads] */
    int64_t mlp_width;               /* [4 * width; SwiGLU: 8/3 * width rounded up to 64] */
    int64_t context, vocab;
    grd_mlp_kind mlp;
    grd_norm_kind norm;
    double norm_eps; /* [1e-5 LayerNorm, 1e-6 RMSNorm] */
    bool no_norm_gain;
    grd_position_kind position;
    double rope_theta; /* [10000] */
    grd_rope_scaling_kind rope_scaling;
    double rope_factor, rope_low, rope_high; /* scaling factor; Llama 3's low and high frequency factors */
    int64_t rope_original;                   /* Llama 3: the context that the frequencies were trained for */
    bool qk_norm;                            /* RMSNorm of every head's query and key; with gains unless no_norm_gain */
    bool no_bias;                            /* linear layers and LayerNorms without bias */
    bool qkv_bias;                           /* with no_bias: queries, keys and values have one all the same (Qwen 2) */
    bool out_bias, mlp_bias;                 /* the same for attention's last layer, and for those of the MLP */
    bool untied;                             /* the head has its own weight instead of the embedding's */
    double dropout;                          /* after embedding, attention and MLP; needs a key */
    int32_t window;                          /* sliding-window attention; 0: none */
    double softcap;                          /* logits become c tanh(logits / c); 0: off */
    double init_std;                         /* [0.02]; residual projections get init_std / sqrt(2 layers) */
    bool muon_init; /* hidden matrices ~ N(0, 1/(4 inputs)), residual projections and head 0, for training with Muon */
    bool embedding_norm; /* RMSNorm without gain right after the embedding */
    bool bidirectional;  /* every token sees all others, not only those before it (an encoder); no cache then */
} grd_gpt;

/* Fills in the defaults; an error message names what does not fit (heads that do not divide the width, ...). */
GRD_API grd_status grd_gpt_resolve(grd_gpt *gpt, grd_error *error);
/* Number of parameters of the resolved model. */
GRD_API int64_t grd_gpt_parameters(const grd_gpt *gpt);

/* ids i32 [B,T], T <= context, to hidden values [B,T,width] after the last norm. `key` i32 [4] drives dropout, see
 * grd_dropout; a zeroed tensor where dropout is 0 or not wanted (evaluation). Parameters: embed/weight,
 * position/weight, h<i>/norm1, h<i>/attn/qkv, h<i>/attn/out, h<i>/norm2, h<i>/mlp/up (SwiGLU: gate_up), h<i>/mlp/down,
 * norm, head/weight (untied). Each block is one recompute segment. */
GRD_API grd_tensor grd_gpt_hidden(grd_tensor ids, const grd_gpt *gpt, grd_tensor key);
/* The blocks and the last norm alone, for values [B,T,width] that come from anything (patches of an image, ...) and
 * know their positions already, but for rotary ones. Dropout before the first block, too. */
GRD_API grd_tensor grd_gpt_blocks(grd_tensor x, const grd_gpt *gpt, grd_tensor key);
/* As grd_gpt_hidden for tokens that follow others, whose keys and values a cache holds: ids [B,T] stand at positions
 * i32 [T], each one more than the one before, below `length` (and below the context). Tokens before positions[0] must
 * have gone through this or another such graph of the model, with the same B and length. Each layer keeps two states,
 * h<i>/attn/cache/k and v, [B,length,kv_heads,head_dim]; a program has to be made of values that need all layers. No
 * dropout. */
GRD_API grd_tensor grd_gpt_hidden_cached(grd_tensor ids, grd_tensor positions, int64_t length, const grd_gpt *gpt);
/* Logits [...,vocab] of hidden values [...,width]. */
GRD_API grd_tensor grd_gpt_logits(grd_tensor hidden, const grd_gpt *gpt);
/* scale * sum of the cross-entropies (nats) of all positions with a target other than -100; targets i32 [B,T], scale
 * f32 scalar: 1 / number of such positions in the whole step gives the mean. `options` may be NULL; the softcap in it
 * is the model's. */
GRD_API grd_tensor grd_gpt_loss(grd_tensor hidden, const grd_gpt *gpt, grd_tensor targets, grd_tensor scale,
                                const grd_cross_entropy_options *options);

#ifdef __cplusplus
}
#endif
#endif
