/* Strict JSON. */
#include "base/json.h"
#include "base/memory.h"
#include "faults.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <string.h>

TestSuite(json, .fini = scratch_remove);

static void assert_refused(const char *text, const char *reason)
{
    grd_error error = {0};
    cr_assert(grd_json_parse(text, strlen(text), "place", &error) == NULL, "taken: %s", text);
    cr_assert(error.status == GRD_E_FORMAT && strncmp(error.message, "place:", 6) == 0, "%s", error.message);
    cr_assert(strstr(error.message, reason), "'%s' lacks '%s'", error.message, reason);
}

Test(json, what_is_not_json_is_refused_with_line_and_reason)
{
    assert_refused("{\"a\": 1,\n \"a\": 2}", "duplicate");
    assert_refused("{\"a\": 1} x", "end of file expected");
    assert_refused("{\"a\": \"\xff\"}", "byte 0xff");
    assert_refused("{\n\n\"a\": ]}", "place:3:");
    assert_refused("", "'[' or '{'");
    assert_refused("{\"a\": 99999999999999999999}", "too big integer");
}

Test(json, zero_bytes_are_refused)
{
    grd_error error = {0};
    cr_assert(grd_json_parse("[1\0]", 4, "place", &error) == NULL, "a zero byte after a number");
    cr_assert(strstr(error.message, "zero byte"), "%s", error.message);
    cr_assert(grd_json_parse("[1]\0", 4, "place", NULL) == NULL, "a zero byte at the end");
}

Test(json, nesting_is_limited)
{
    char text[2 * GRDI_JSON_DEPTH_MAX + 3] = "";
    memset(text, '[', GRDI_JSON_DEPTH_MAX);
    memset(text + GRDI_JSON_DEPTH_MAX, ']', GRDI_JSON_DEPTH_MAX);
    json_t *value = grd_json_parse(text, strlen(text), "place", NULL);
    cr_assert(value != NULL, "the deepest allowed");
    json_decref(value);
    memset(text, '[', GRDI_JSON_DEPTH_MAX + 1);
    memset(text + GRDI_JSON_DEPTH_MAX + 1, ']', GRDI_JSON_DEPTH_MAX + 1);
    assert_refused(text, "levels of nesting");
    char quoted[400] = "[\"\\\"";
    memset(quoted + 4, '{', 300);
    strcpy(quoted + 304, "\"]");
    value = grd_json_parse(quoted, strlen(quoted), "place", NULL);
    cr_assert(value != NULL, "brackets in a text do not nest");
    json_decref(value);
}

Test(json, text_is_written_and_read_back)
{
    json_t *value = grd_json_parse("{\"b\": [1, 2.5, null], \"a\": \"\\u00e4\"}", 36, "place", NULL);
    size_t size = 0;
    char *text = grdi_json_text(value, JSON_COMPACT, &size);
    cr_assert(strcmp(text, "{\"b\":[1,2.5,null],\"a\":\"\xc3\xa4\"}") == 0 && strlen(text) == size, "%s", text);
    scratch_write(scratch_path("file.json"), text, size);
    json_t *again = grd_json_read(scratch_path("file.json"), 1000, NULL);
    cr_assert(json_equal(value, again), "comes back");
    json_decref(again);
    json_decref(value);
    grdi_free(text);
}

/* Fails each allocation of a parse in turn. */
static void assert_survives(const char *text)
{
    bool hit = true;
    for (long n = 1; hit; n++) {
        grd_error error = {0};
        faults_fail_at(n);
        json_t *value = grd_json_parse(text, strlen(text), "place", &error);
        hit = faults_hit();
        faults_fail_at(0);
        cr_assert((value != NULL) == !hit && (error.status == GRD_E_MEMORY) == hit, "fault %ld: %s: %s", n, text,
                  error.message);
        json_decref(value);
        cr_assert(faults_held() == 0, "fault %ld: %s: %ld blocks leak", n, text, faults_held());
    }
}

Test(json, running_out_of_memory_is_no_crash_and_no_leak)
{
    faults_install();
    assert_survives("{\"a\": [1, 2.5, \"text\", {\"b\": true}], \"c\": {\"d\": \"e\"}, "
                    "\"a name of more than 16 bytes\": "
                    "\"a text of more than 64 bytes, so that the buffer that jansson reads it into has to grow\"}");
}

/* The character that the buffer has no room for may be any part of an escape, a closing quote, the end of a number. */
Test(json, running_out_of_memory_inside_a_token_is_no_crash)
{
    faults_install();
    char text[128];
    for (int length = 0; length < 40; length++) {
        snprintf(text, sizeof(text), "[\"%.*s\\u00e4\\n\\\"\"]", length,
                 "a text of some forty characters or a little more");
        assert_survives(text);
        snprintf(text, sizeof(text), "[-1.0%.*se-05, 2]", length, "2345678901234567890123456789012345678901");
        assert_survives(text);
        snprintf(text, sizeof(text), "[%.*s, 1]", length % 18 + 1, "-12345678901234567");
        if (length % 18 > 0) assert_survives(text);
    }
}
