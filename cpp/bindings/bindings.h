// What module.cpp puts together: one function a source of bindings.
#pragma once

#include <nanobind/nanobind.h>

void bind_decoder(nanobind::module_& m);
void bind_embedding(nanobind::module_& m);
void bind_linear(nanobind::module_& m);
void bind_program(nanobind::module_& m);
void bind_roofline(nanobind::module_& m);
void bind_weight_codes(nanobind::module_& m);
