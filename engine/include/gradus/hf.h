/* hf.h - transformers in Hugging Face's layout: config.json and tensor names of GPT-2, Llama, Qwen2, Qwen3 and
 * Mistral kinds.
 *
 * Our names and theirs differ in three ways: a table of names; q, k, v (and gate, up) are one matrix of ours and
 * several of theirs; GPT-2's linear weights are stored [inputs, outputs] there, [outputs, inputs] here. Values are
 * copied bit for bit. */
#ifndef GRADUS_HF_H
#define GRADUS_HF_H

#include <gradus/io.h>
#include <gradus/model.h>
#include <gradus/nn.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum grd_hf_kind {
    GRD_HF_NONE = 0,
    GRD_HF_GPT2,
    GRD_HF_LLAMA,
    GRD_HF_QWEN2,
    GRD_HF_QWEN3,
    GRD_HF_MISTRAL
} grd_hf_kind;

/* Which architecture of transformers computes exactly this model; NONE where there is none. */
GRD_API grd_hf_kind grd_hf_kind_of(const grd_gpt *gpt);

/* The text of config.json (indented JSON) for that model; free with grd_hf_free_text(). For kind NONE it says
 * architecture "GradusForCausalLM", which transformers has not, and holds what grd_hf_read_config() needs. NULL when
 * out of memory. `end_of_text` is the id of the end-of-text token, or -1. */
GRD_API char *grd_hf_config_text(const grd_gpt *gpt, int32_t end_of_text);
GRD_API void grd_hf_free_text(char *text);
/* Reads the config.json in `folder`. Errors name the file and the key: an architecture or a setting that this model
 * cannot express is refused. */
GRD_API grd_status grd_hf_read_config(const char *folder, grd_gpt *gpt, grd_error *error);
/* The same from the text of a config.json; `place` names it in errors. */
GRD_API grd_status grd_hf_parse_config(const char *text, size_t size_bytes, const char *place, grd_gpt *gpt,
                                       grd_error *error);

/* All parameters under Hugging Face's names (kind NONE: under ours); free with grd_hf_free_tensors(). */
GRD_API grd_status grd_hf_export(grd_model *model, const grd_gpt *gpt, grd_file_tensor **tensors, size_t *count,
                                 grd_error *error);
GRD_API void grd_hf_free_tensors(grd_file_tensor *tensors, size_t count);

/* The same for writers that take one tensor at a time, so that no second copy of the model is held. */
typedef struct grd_hf_exporter grd_hf_exporter;
GRD_API grd_status grd_hf_exporter_new(grd_model *model, const grd_gpt *gpt, grd_hf_exporter **exporter,
                                       grd_error *error);
GRD_API void grd_hf_exporter_free(grd_hf_exporter *exporter);
/* Names, shapes (f32) and sizes, `data` NULL; they belong to the exporter. */
GRD_API const grd_file_tensor *grd_hf_exporter_tensors(const grd_hf_exporter *exporter, size_t *count);
/* Puts the values of the tensor of that name into data [size_bytes]; `exporter` is a grd_hf_exporter. */
GRD_API grd_status grd_hf_exporter_read(void *exporter, const grd_file_tensor *tensor, void *data, grd_error *error);

/* Writes the tensors of a file into the model's parameters; f32, bf16 and f16 files are taken. A tensor that is
 * missing, has another shape or is none of the model's is an error that names it. */
GRD_API grd_status grd_hf_import(grd_model *model, const grd_gpt *gpt, const grd_safetensors *file, grd_error *error);

#ifdef __cplusplus
}
#endif
#endif
