/* fuzz_metrics.c - any bytes as metrics.jsonl of a run that is resumed: lines that stay go into the history, and the
 * report is drawn from it. */
#include "fuzz.h"

#include "train/session.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const grd_run_options none = {.size = sizeof none};
    static grdi_session s;
    grd_error error = {0};
    fuzz_input in = {data, data + size};
    memset(&s, 0, sizeof s);
    s.settings = grd_settings_new();
    FUZZ_CHECK(s.settings && grd_settings_set(s.settings, "out=run", NULL) == GRD_OK);
    s.options = &none;
    s.error = &error;
    s.metrics_fd = s.board.fd = -1;
    s.done = fuzz_byte(&in) % 2 ? INT64_MAX : 100;
    fuzz_files_clear();
    fuzz_file_put("run/metrics.jsonl", in.at, (size_t)(in.end - in.at));
    FUZZ_CHECK(grdi_metrics_resume(&s) == GRD_OK);
    FUZZ_CHECK(grdi_report_write(&s.history, s.settings, "run", NULL, &error) == GRD_OK);
    grdi_metrics_close(&s);
    grdi_history_free(&s.history);
    grd_settings_free(s.settings);
    return 0;
}
