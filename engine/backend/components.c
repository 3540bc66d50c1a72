/* components.c - the libraries that this build uses, for people who ask why it is slow or what it can do. */
#include <gradus/about.h>

#include "backend/backend.h"
#include "backend/cpu/device.h"

#include <jansson.h>
#include <libfyaml.h>
#include <omp.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>
#include <xxhash.h>
#include <zlib.h>

static const char *onednn_version(void)
{
    const char *library = grdi_cpu_matmul_library();
    const char *dash = strchr(library, '-');
    return dash ? dash + 1 : NULL;
}

static const char *xxhash_version(void)
{
    static char text[16];
    unsigned v = XXH_versionNumber();
    snprintf(text, sizeof(text), "%u.%u.%u", v / 10000, v / 100 % 100, v % 100);
    return text;
}

static const char *pcre2_version(void)
{
    static char text[64];
    return pcre2_config(PCRE2_CONFIG_VERSION, text) > 0 ? text : "?";
}

static const char *openmp_version(void)
{
    static char text[16];
    snprintf(text, sizeof(text), "%d", _OPENMP);
    return text;
}

static const char *jpeg_version(void)
{
#ifdef GRADUS_HAVE_JPEG
    return GRADUS_JPEG_VERSION;
#else
    return NULL;
#endif
}

static const char *png_version(void)
{
#ifdef GRADUS_HAVE_PNG
    return GRADUS_PNG_VERSION;
#else
    return NULL;
#endif
}

typedef struct entry {
    const char *name;
    const char *(*version)(void);
    const char *purpose;
} entry;

static const entry entries[] = {
    {"oneDNN", onednn_version,
     "convolutions, and matrix products in bf16 where the processor has bf16 instructions; without it our own loops "
     "do all of them, convolutions more slowly"},
    {"OpenMP", openmp_version, "threads"},
    {"jansson", jansson_version_str, "JSON: tokenizers, checkpoints, --json"},
    {"libfyaml", fy_library_version, "YAML: config files"},
    {"xxHash", xxhash_version, "checksums of checkpoints"},
    {"zlib", zlibVersion, "gzipped IDX files of images"},
    {"libjpeg", jpeg_version, "JPEG images"},
    {"libpng", png_version, "PNG images"},
    {"PCRE2", pcre2_version, "cutting text into words before byte-pair encoding"},
};

/* After the engine's own libraries those of the CUDA plugin, or the plugin itself where it is missing. */
bool grd_component_at(int32_t index, grd_component *component)
{
    const int32_t own = (int32_t)(sizeof(entries) / sizeof(entries[0]));
    if (index < 0) return false;
    if (index < own) {
        *component = (grd_component){entries[index].name, entries[index].version(), entries[index].purpose};
        return true;
    }
    const char *argument;
    const grdi_backend *cuda = grdi_backend_find("cuda", &argument);
    if (cuda->component) return cuda->component(index - own, component);
    *component = (grd_component){"libgradus_cuda", NULL, "device cuda (built where nvcc is found)"};
    return index == own;
}
