/* log.h - lines for the person at the terminal: to stderr, dropped below the chosen level. */
#ifndef GRDI_LOG_H
#define GRDI_LOG_H

typedef enum grdi_level { GRDI_LOG_DEBUG, GRDI_LOG_INFO, GRDI_LOG_WARN } grdi_level;

void grdi_log_level(grdi_level least);
void grdi_log(grdi_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Seconds on the monotonic clock. */
double grdi_seconds(void);

#endif
