// Decoders as Python classes. Callers (eqnet/lm/) check types and sizes, and keep the memory behind addresses alive.
#include "eqnet/decoder.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <new>
#include <utility>
#include <vector>

#include "bindings.h"

namespace nb = nanobind;

namespace {

using eqnet::Activation;
using eqnet::DecoderBlock;
using eqnet::DecoderSession;
using eqnet::Projection;
using eqnet::Rotation;

template <class T>
const T* at(std::uintptr_t address) {
  return reinterpret_cast<const T*>(address);
}

}  // namespace

void bind_decoder(nb::module_& m) {
  nb::class_<Projection>(m, "Projection")
      .def(
          "__init__",
          [](Projection* self, std::int64_t rows, std::int64_t cols, std::int64_t group_size, int bits,
             std::uintptr_t codes, std::uintptr_t scales, int scale_type, std::uintptr_t zeros, std::uintptr_t bias) {
            new (self) Projection{{{rows, cols, group_size, bits},
                                   at<std::uint8_t>(codes),
                                   at<void>(scales),
                                   static_cast<eqnet::ScaleType>(scale_type),
                                   at<std::uint8_t>(zeros)},
                                  at<float>(bias)};
          });

  nb::class_<Rotation>(m, "Rotation")
      .def(
          "__init__",
          [](Rotation* self, std::vector<float> frequencies, float scale, bool interleaved) {
            new (self) Rotation{std::move(frequencies), scale, interleaved};
          },
          nb::arg("frequencies"), nb::arg("scale"), nb::arg("interleaved"));

  nb::class_<DecoderBlock>(m, "DecoderBlock")
      .def(
          "__init__",
          [](DecoderBlock* self, std::uintptr_t attention_norm, std::uintptr_t query_norm, std::uintptr_t key_norm,
             std::uintptr_t after_attention, std::uintptr_t mlp_norm, std::uintptr_t after_mlp, const Projection& query,
             const Projection& key, const Projection& value, const Projection& output, const Projection& gate,
             const Projection& up, const Projection& down, int rotation, std::int64_t window) {
            new (self) DecoderBlock{at<float>(attention_norm), at<float>(query_norm), at<float>(key_norm),
                                    at<float>(after_attention), at<float>(mlp_norm), at<float>(after_mlp),
                                    query, key, value, output, gate, up, down, rotation, window};
          },
          nb::kw_only(), nb::arg("attention_norm"), nb::arg("query_norm"), nb::arg("key_norm"),
          nb::arg("after_attention"), nb::arg("mlp_norm"), nb::arg("after_mlp"), nb::arg("query"), nb::arg("key"),
          nb::arg("value"), nb::arg("output"), nb::arg("gate"), nb::arg("up"), nb::arg("down"), nb::arg("rotation"),
          nb::arg("window"));

  nb::class_<DecoderSession>(m, "DecoderSession")
      .def_prop_ro("length", &DecoderSession::length)
      .def_prop_ro("position", &DecoderSession::position);

  nb::class_<eqnet::Decoder>(m, "Decoder")
      .def(
          "__init__",
          [](eqnet::Decoder* self, std::int64_t hidden, std::int64_t heads, std::int64_t kv_heads,
             std::int64_t head_dim, std::int64_t intermediate, int activation, float norm_epsilon,
             float attention_scale, float attention_softcap, float logit_softcap, std::vector<Rotation> rotations,
             std::vector<DecoderBlock> blocks, std::uintptr_t norm, const Projection& head) {
            const eqnet::DecoderShape shape{hidden,
                                            heads,
                                            kv_heads,
                                            head_dim,
                                            intermediate,
                                            static_cast<Activation>(activation),
                                            norm_epsilon,
                                            attention_scale,
                                            attention_softcap,
                                            logit_softcap};
            new (self) eqnet::Decoder(shape, std::move(rotations), std::move(blocks), at<float>(norm), head);
          },
          nb::kw_only(), nb::arg("hidden"), nb::arg("heads"), nb::arg("kv_heads"), nb::arg("head_dim"),
          nb::arg("intermediate"), nb::arg("activation"), nb::arg("norm_epsilon"), nb::arg("attention_scale"),
          nb::arg("attention_softcap"), nb::arg("logit_softcap"), nb::arg("rotations"), nb::arg("blocks"),
          nb::arg("norm"), nb::arg("head"))
      .def("session", &eqnet::Decoder::session)
      .def(
          "feed",
          [](const eqnet::Decoder& decoder, DecoderSession& session, std::uintptr_t x, std::int64_t rows, bool all,
             std::uintptr_t logits, int compute, int threads) {
            decoder.feed(session, reinterpret_cast<float*>(x), rows, all, reinterpret_cast<float*>(logits),
                         static_cast<eqnet::Compute>(compute), threads);
          },
          nb::call_guard<nb::gil_scoped_release>());
}
