// Barriers, shuffles and votes, as CUDA calls them.
#pragma once

#include <cstring>

#include "machine.h"

namespace eqnet::emulator {

// Calls combine(warp, lanes) once all of the lanes are there, each with its operands.
template <typename Operands>
void in_warp(const char* operation, unsigned lanes, Operands& operands, void (*combine)(Warp&, unsigned),
             const Site& site, bool same_site = false) {
  machine().block.wait_in_warp({operation, site, lanes, same_site, &operands, combine});
}

inline int in_block(const char* operation, bool value, const Site& site) {
  return machine().block.wait_in_block({operation, site, ~0u, true, nullptr, nullptr}, value);
}

template <typename T>
struct Shuffle {
  T value;
  int source;  // lane
  T result;
};

template <typename T>
T shuffle(const char* operation, unsigned lanes, T value, int source, const Site& site) {
  Shuffle<T> operands{value, source, value};
  in_warp(
      operation, lanes, operands,
      +[](Warp& warp, unsigned all) {
        for (int lane = 0; lane < warp.threads; ++lane) {
          if (!(all >> lane & 1)) continue;
          Shuffle<T>& mine = warp.operands<Shuffle<T>>(lane);
          if (all >> mine.source & 1) {
            mine.result = warp.operands<Shuffle<T>>(mine.source).value;
          } else {
            machine().find(Kind::kDivergence, warp.site(all), warp.first[lane],
                           "takes a value from lane " + std::to_string(mine.source) + ", which does not take part");
          }
        }
      },
      site);
  return operands.result;
}

struct Vote {
  bool value;
  unsigned result;
};

inline unsigned vote(const char* operation, unsigned lanes, bool value, const Site& site) {
  Vote operands{value, 0};
  in_warp(
      operation, lanes, operands,
      +[](Warp& warp, unsigned all) {
        unsigned votes = 0;
        for (int lane = 0; lane < warp.threads; ++lane) {
          if (all >> lane & 1) votes |= static_cast<unsigned>(warp.operands<Vote>(lane).value) << lane;
        }
        for (int lane = 0; lane < warp.threads; ++lane) {
          if (all >> lane & 1) warp.operands<Vote>(lane).result = votes;
        }
      },
      site);
  return operands.result;
}

inline int lane() { return machine().block.thread().lane; }

// The first lane of the part of a warp, `width` lanes wide, to which the lane belongs.
inline int part(int width) { return lane() & ~(width - 1); }

}  // namespace eqnet::emulator

using EmulatorSite = eqnet::emulator::Site;

inline void __syncthreads(EmulatorSite site = EmulatorSite::here()) {
  eqnet::emulator::in_block("__syncthreads", false, site);
}
inline int __syncthreads_count(int value, EmulatorSite site = EmulatorSite::here()) {
  return eqnet::emulator::in_block("__syncthreads_count", value != 0, site);
}
inline int __syncthreads_or(int value, EmulatorSite site = EmulatorSite::here()) {
  return eqnet::emulator::in_block("__syncthreads_or", value != 0, site) != 0;
}
inline int __syncthreads_and(int value, EmulatorSite site = EmulatorSite::here()) {
  return eqnet::emulator::in_block("__syncthreads_and", value == 0, site) == 0;
}

inline void __syncwarp(unsigned lanes = ~0u, EmulatorSite site = EmulatorSite::here()) {
  char nothing = 0;
  eqnet::emulator::in_warp(
      "__syncwarp", lanes, nothing,
      +[](eqnet::emulator::Warp& warp, unsigned all) {
        eqnet::emulator::machine().block.clocks().join_warp(warp.number, all);
      },
      site);
}

template <typename T>
T __shfl_sync(unsigned lanes, T value, int source, int width = warpSize, EmulatorSite site = EmulatorSite::here()) {
  const int from = eqnet::emulator::part(width) + (source & (width - 1));
  return eqnet::emulator::shuffle("__shfl_sync", lanes, value, from, site);
}
template <typename T>
T __shfl_up_sync(unsigned lanes, T value, unsigned by, int width = warpSize, EmulatorSite site = EmulatorSite::here()) {
  const int lane = eqnet::emulator::lane();
  const int from = lane - static_cast<int>(by);
  return eqnet::emulator::shuffle("__shfl_up_sync", lanes, value, from < eqnet::emulator::part(width) ? lane : from,
                                  site);
}
template <typename T>
T __shfl_down_sync(unsigned lanes, T value, unsigned by, int width = warpSize,
                   EmulatorSite site = EmulatorSite::here()) {
  const int lane = eqnet::emulator::lane();
  const int from = lane + static_cast<int>(by);
  return eqnet::emulator::shuffle("__shfl_down_sync", lanes, value,
                                  from >= eqnet::emulator::part(width) + width ? lane : from, site);
}
template <typename T>
T __shfl_xor_sync(unsigned lanes, T value, int with, int width = warpSize, EmulatorSite site = EmulatorSite::here()) {
  const int lane = eqnet::emulator::lane();
  // Lanes of later parts of the warp cannot be reached; those of earlier ones can.
  const int from = lane ^ with;
  return eqnet::emulator::shuffle("__shfl_xor_sync", lanes, value,
                                  from >= eqnet::emulator::part(width) + width ? lane : from, site);
}

inline unsigned __ballot_sync(unsigned lanes, int value, EmulatorSite site = EmulatorSite::here()) {
  return eqnet::emulator::vote("__ballot_sync", lanes, value != 0, site);
}
inline int __any_sync(unsigned lanes, int value, EmulatorSite site = EmulatorSite::here()) {
  return eqnet::emulator::vote("__any_sync", lanes, value != 0, site) != 0;
}
inline int __all_sync(unsigned lanes, int value, EmulatorSite site = EmulatorSite::here()) {
  return eqnet::emulator::vote("__all_sync", lanes, value == 0, site) == 0;
}

inline void __threadfence() { eqnet::emulator::machine().order.fence(); }
inline void __threadfence_block() {}  // what a thread has written is there
