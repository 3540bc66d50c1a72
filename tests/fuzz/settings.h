/* settings.h - what the two targets of settings share. */
#ifndef TESTS_FUZZ_SETTINGS_H
#define TESTS_FUZZ_SETTINGS_H

#include <gradus/run.h>

/* Settings that were accepted: what is written of them and read again is the same, and they resolve or say why not. */
void fuzz_check_settings(grd_settings *settings);

#endif
