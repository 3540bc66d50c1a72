/* gradus.h - all of Gradus: open an engine, build a graph, train it, save it. */
#ifndef GRADUS_H
#define GRADUS_H

#include <gradus/about.h>
#include <gradus/base.h>
#include <gradus/check.h>
#include <gradus/classification.h>
#include <gradus/custom.h>
#include <gradus/graph.h>
#include <gradus/hf.h>
#include <gradus/images.h>
#include <gradus/json.h>
#include <gradus/model.h>
#include <gradus/nn.h>
#include <gradus/ops.h>
#include <gradus/run.h>
#include <gradus/table.h>
#include <gradus/train.h>

#endif
