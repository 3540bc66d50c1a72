/* config_json.c - writing and reading the keys of a config.json. */
#include "nn/import/config_json.h"

void hf_set(hf_object *object, const char *key, json_t *value)
{
    if (json_object_set_new(object->json, key, value)) object->complete = false;
}

enum { LARGEST = 1 << 30 };

const json_t *hf_value(const hf_reader *r, const char *key, bool required)
{
    const json_t *v = json_object_get(r->object, key);
    if (v && !json_is_null(v)) return v;
    if (required) grd_fail(r->error, GRD_E_FORMAT, "%s: %s: is missing", r->path, key);
    return NULL;
}

void hf_wrong_kind(const hf_reader *r, const char *key, const char *wanted)
{
    grd_fail(r->error, GRD_E_FORMAT, "%s: %s: must be %s", r->path, key, wanted);
}

int64_t hf_whole(const hf_reader *r, const char *key, int64_t otherwise, bool required)
{
    const json_t *v = hf_value(r, key, required);
    if (!v) return otherwise;
    int64_t number = json_integer_value(v);
    if (!json_is_integer(v)) hf_wrong_kind(r, key, "a whole number");
    else if (number < 1 || number > LARGEST)
        grd_fail(r->error, GRD_E_FORMAT, "%s: %s: %lld is outside 1 to %d", r->path, key, (long long)number, LARGEST);
    else return number;
    return otherwise;
}

double hf_number(const hf_reader *r, const char *key, double otherwise, bool required)
{
    const json_t *v = hf_value(r, key, required);
    if (json_is_number(v)) return json_number_value(v);
    if (v) hf_wrong_kind(r, key, "a number");
    return otherwise;
}

bool hf_truth(const hf_reader *r, const char *key, bool otherwise)
{
    const json_t *v = hf_value(r, key, false);
    if (v && !json_is_boolean(v)) hf_wrong_kind(r, key, "true or false");
    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

const char *hf_word(const hf_reader *r, const char *key, const char *otherwise)
{
    const json_t *v = hf_value(r, key, false);
    if (v && !json_is_string(v)) hf_wrong_kind(r, key, "a text");
    return json_is_string(v) ? json_string_value(v) : otherwise;
}

void hf_refuse(const hf_reader *r, const char *key, const char *value, const char *instead)
{
    grd_fail(r->error, GRD_E_UNSUPPORTED, "%s: %s: '%s' is not supported (%s)", r->path, key, value,
             instead ? instead : "take a model without it");
}
