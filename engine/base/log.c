/* log.c - lines to stderr and the clock. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

static atomic_int least_level = GRDI_LOG_INFO;

void grdi_log_level(grdi_level least) { atomic_store(&least_level, (int)least); }

void grdi_log(grdi_level level, const char *format, ...)
{
    static const char *const prefixes[] = {
        [GRDI_LOG_DEBUG] = "debug: ", [GRDI_LOG_INFO] = "", [GRDI_LOG_WARN] = "warning: "};
    if ((int)level < atomic_load(&least_level))
        return;
    /* One write for the whole line, so that lines of several threads do not mix. */
    char line[2048];
    va_list arguments;
    va_start(arguments, format);
    if (vsnprintf(line, sizeof line, format, arguments) < 0)
        line[0] = 0;
    va_end(arguments);
    fprintf(stderr, "%s%s\n", prefixes[level], line);
}

double grdi_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}
