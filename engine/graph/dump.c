/* dump.c - graphs as GraphViz text and as JSON. */
#include "graph/graph.h"

#include "base/file.h"

#include <math.h>

/* A text inside the quotes of DOT or JSON; scopes and names are whatever the caller gave. */
static void print_quoted(grdi_writer *w, const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\') grdi_writer_print(w, "\\%c", *c);
        else if (*c < ' ') grdi_writer_print(w, " ");
        else grdi_writer_print(w, "%c", *c);
    }
}

static void print_path(grdi_writer *w, const grdi_node *node)
{
    print_quoted(w, node->scope);
    grdi_writer_print(w, "%s", node->scope[0] ? "/" : "");
    print_quoted(w, node->name ? node->name : node->op->name);
}

static const char *phase_name(grdi_phase phase)
{
    return phase == GRDI_FORWARD ? "forward" : phase == GRDI_BACKWARD ? "backward" : "update";
}

grd_status grdi_graph_dump_dot(const grd_graph *graph, const char *path, grd_error *error)
{
    static const char *const colours[] = {"white", "lightblue", "lightyellow"};
    grdi_writer w;
    if (grdi_writer_open(&w, path)) return grdi_writer_commit(&w, error);
    grdi_writer_print(&w, "digraph gradus {\n  node [shape=box, style=filled, fontname=\"monospace\"];\n");
    for (size_t n = 0; n < graph->count; n++) {
        const grdi_node *node = graph->nodes[n];
        char text[GRD_DIMS_TEXT_MAX];
        grdi_writer_print(&w, "  n%zu [fillcolor=%s, label=\"", n, colours[node->phase]);
        print_path(&w, node);
        for (int32_t o = 0; o < node->output_count; o++)
            grdi_writer_print(&w, "\\n%s%s", grd_dtype_name(node->out[o].dtype),
                              grd_dims_text(node->out[o].dims, text));
        grdi_writer_print(&w, "\"];\n");
        for (int32_t i = 0; i < node->input_count; i++)
            grdi_writer_print(&w, "  n%d -> n%zu;\n", node->in[i].node->id, n);
    }
    grdi_writer_print(&w, "}\n");
    return grdi_writer_commit(&w, error);
}

static void print_attrs(grdi_writer *w, const grd_attr *attrs)
{
    for (const grd_attr *a = attrs; a->name; a++) {
        grdi_writer_print(w, "%s\"%s\":", a == attrs ? "" : ",", a->name);
        switch (a->kind) {
        case GRD_ATTR_FLOAT: /* JSON has no infinities: in quotes */
            grdi_writer_print(w, isfinite(a->f) ? "%.17g" : "\"%g\"", a->f);
            break;
        case GRD_ATTR_BOOL: grdi_writer_print(w, a->i ? "true" : "false"); break;
        case GRD_ATTR_DTYPE: grdi_writer_print(w, "\"%s\"", grd_dtype_name((grd_dtype)a->i)); break;
        case GRD_ATTR_INTS:
            grdi_writer_print(w, "[");
            for (int32_t i = 0; i < a->count; i++) grdi_writer_print(w, "%s%lld", i ? "," : "", (long long)a->ints[i]);
            grdi_writer_print(w, "]");
            break;
        default: grdi_writer_print(w, "%lld", (long long)a->i);
        }
    }
}

static void print_node(grdi_writer *w, const grdi_node *node)
{
    grdi_writer_print(w, "{\"id\":%d,\"op\":\"%s\",\"phase\":\"%s\",\"scope\":\"", node->id, node->op->name,
                      phase_name(node->phase));
    print_quoted(w, node->scope);
    if (node->name) {
        grdi_writer_print(w, "\",\"name\":\"");
        print_quoted(w, node->name);
    }
    grdi_writer_print(w, "\",\"inputs\":[");
    for (int32_t i = 0; i < node->input_count; i++)
        grdi_writer_print(w, "%s[%d,%d]", i ? "," : "", node->in[i].node->id, node->in[i].output);
    grdi_writer_print(w, "],\"outputs\":[");
    for (int32_t o = 0; o < node->output_count; o++) {
        char text[GRD_DIMS_TEXT_MAX];
        grdi_writer_print(w, "%s{\"dtype\":\"%s\",\"dims\":%s}", o ? "," : "", grd_dtype_name(node->out[o].dtype),
                          grd_dims_text(node->out[o].dims, text));
    }
    grdi_writer_print(w, "],\"attrs\":{");
    print_attrs(w, node->attrs);
    grdi_writer_print(w, "}}");
}

grd_status grdi_graph_dump_json(const grd_graph *graph, const char *path, grd_error *error)
{
    grdi_writer w;
    if (grdi_writer_open(&w, path)) return grdi_writer_commit(&w, error);
    grdi_writer_print(&w, "{\"nodes\":[\n");
    for (size_t n = 0; n < graph->count; n++) {
        print_node(&w, graph->nodes[n]);
        grdi_writer_print(&w, n + 1 < graph->count ? ",\n" : "\n");
    }
    grdi_writer_print(&w, "]}\n");
    return grdi_writer_commit(&w, error);
}
