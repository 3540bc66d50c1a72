/* config_json.h - writing and reading the keys of a config.json, with errors that name file and key. */
#ifndef GRD_CONFIG_JSON_H
#define GRD_CONFIG_JSON_H

#include <gradus/hf.h>

#include <jansson.h>

/* ---- writing ---- */

typedef struct hf_object {
    json_t *json;
    bool complete; /* false: out of memory; a key that is silently missing would make it another model's */
} hf_object;

/* Takes over `value`. */
void hf_set(hf_object *object, const char *key, json_t *value);

/* ---- reading ---- */

typedef struct hf_reader {
    const json_t *object;
    const char *path; /* of the file, for messages */
    grd_error *error; /* keeps the first one */
} hf_reader;

/* The key's value, or NULL where it is missing or null; that is an error where it is `required`. The others give
 * `otherwise` in that case. */
const json_t *hf_value(const hf_reader *r, const char *key, bool required);
int64_t hf_whole(const hf_reader *r, const char *key, int64_t otherwise, bool required);
double hf_number(const hf_reader *r, const char *key, double otherwise, bool required);
bool hf_truth(const hf_reader *r, const char *key, bool otherwise);
const char *hf_word(const hf_reader *r, const char *key, const char *otherwise);

/* Errors: the key "must be <wanted>"; its value "is not supported". */
void hf_wrong_kind(const hf_reader *r, const char *key, const char *wanted);
void hf_refuse(const hf_reader *r, const char *key, const char *value, const char *instead);

/* own_config.c: the keys of a model that transformers has no architecture for. */
void hf_write_own(hf_object *object, const grd_gpt *gpt);
void hf_read_own(const hf_reader *r, grd_gpt *gpt);

#endif
