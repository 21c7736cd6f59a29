// A program without Python that walks all of csrc/: for the sanitizers, and for machines that only an emulator has.
// Prints what it checks; the exit status is the number of failed checks.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "cores.h"
#include "dispatch.h"
#include "pack.h"
#include "peaks.h"
#include "program.h"

namespace {

using namespace hokku;

int failures = 0;

void check(bool holds, const std::string& what) {
  std::printf("%s %s\n", holds ? "ok  " : "FAIL", what.c_str());
  if (!holds) ++failures;
}

std::vector<float> random_values(size_t count, unsigned seed, float scale) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

// A packed matrix [rows][cols] with the memory behind it.
struct Matrix {
  Memory codes, scale, gscale, gmin;
  Weight weight;
};

Matrix pack(const std::vector<float>& values, int64_t rows, int64_t cols, WeightFormat format) {
  const PackedShape shape{rows, cols};
  Matrix m;
  m.codes = Memory(static_cast<size_t>(shape.code_bytes(format)));
  m.scale = Memory(static_cast<size_t>(shape.scale_count()) * sizeof(float));
  m.gscale = Memory(static_cast<size_t>(shape.group_count()) * sizeof(uint16_t));
  m.gmin = Memory(static_cast<size_t>(shape.group_count()) * sizeof(uint16_t));
  switch (format) {
    case WeightFormat::int8: pack_int8(values.data(), shape, m.codes.as<uint8_t>(), m.scale.as<float>()); break;
    case WeightFormat::int4:
      pack_int4(values.data(), shape, true, m.codes.as<uint8_t>(), m.gscale.as<uint16_t>(), m.gmin.as<uint16_t>());
      break;
    case WeightFormat::bf16: pack_bf16(values.data(), shape, m.codes.as<uint16_t>()); break;
  }
  m.weight = {format, rows, cols, shape.depth(), 1, m.codes.as<uint8_t>(), m.scale.as<float>(),
              m.gscale.as<uint16_t>(), m.gmin.as<uint16_t>()};
  return m;
}

// A one-layer model with odd sizes: 5 query heads on 1, head size 48 of which 24 rotate, 101 tokens of vocabulary.
class Toy {
 public:
  static constexpr int64_t kVocabulary = 101, kHidden = 72, kHeads = 5, kHeadDim = 48, kRotary = 24, kFfn = 80;

  Toy(WeightFormat format, KvFormat kv_format, const KernelTable& table, std::shared_ptr<ThreadPool> threads)
      : embedding_(matrix(kVocabulary, kHidden, format, 1)),
        qkv_(matrix((kHeads + 2) * kHeadDim, kHidden, format, 2)),
        o_(matrix(kHidden, kHeads * kHeadDim, format, 3)),
        gate_up_(matrix(2 * kFfn, kHidden, format, 4)),
        down_(matrix(kHidden, kFfn, format, 5)),
        cos_(random_values(256 * kRotary / 2, 6, 0.7f)),
        sin_(random_values(256 * kRotary / 2, 7, 0.7f)),
        gain_(random_values(kHidden, 8, 1.0f)),
        bias_(random_values((kHeads + 2) * kHeadDim, 9, 0.1f)),
        head_gain_(random_values(kHeadDim, 10, 1.0f)),
        program_(kMaxRows, kMaxRows, std::make_shared<PageMemory>(1, kPages, 1, kHeadDim, kv_format), std::move(threads),
                 table) {
    record(format);
  }

  // Logits of the rows [begin, end) of one sequence whose pages are in descending order.
  std::vector<float> run(int32_t begin, int32_t end, float temperature) {
    const auto rows = static_cast<size_t>(end - begin);
    std::vector<int32_t> tokens(rows), positions(rows), index(rows), pages(kPages), sampled(rows), top_k(rows, 20);
    for (size_t r = 0; r < rows; ++r) {
      positions[r] = begin + static_cast<int32_t>(r);
      tokens[r] = (positions[r] * 37 + 5) % static_cast<int32_t>(kVocabulary);
      if (positions[r] % 9 == 4) tokens[r] = -1 - positions[r] % kFeatures;
      index[r] = static_cast<int32_t>(r);
    }
    for (size_t p = 0; p < kPages; ++p) pages[p] = static_cast<int32_t>(kPages - 1 - p);
    const int32_t row_start[2] = {0, end - begin};
    const std::vector<float> temperatures(rows, temperature), top_p(rows, 0.9f);
    const std::vector<uint64_t> seed(rows, 7), counter(rows, 1);
    const std::vector<uint32_t> allowed(rows * 4, 0x55555555u);
    std::vector<float> logprob(rows);
    program_.run({end - begin, 1, end - begin, tokens.data(), positions.data(), row_start, pages.data(), kPages,
                  index.data(), temperatures.data(), top_p.data(), top_k.data(), seed.data(), counter.data(),
                  allowed.data(), sampled.data(), logprob.data(), features_.data(), kFeatures, kHidden});
    for (size_t r = 0; r < rows; ++r) sampled_even_ = sampled_even_ && sampled[r] % 2 == 0 && sampled[r] < kVocabulary;
    return logits(rows);
  }
  // Whether every token drawn so far was one of those allowed, the even ones.
  bool sampled_even() const { return sampled_even_; }

 private:
  static constexpr int64_t kMaxRows = 90, kPages = 8;
  static constexpr int32_t kFeatures = 5;

  static Matrix matrix(int64_t rows, int64_t cols, WeightFormat format, unsigned seed) {
    const float scale = 1.0f / std::sqrt(static_cast<float>(cols));
    return pack(random_values(static_cast<size_t>(rows * cols), seed, scale), rows, cols, format);
  }

  void record(WeightFormat format) {
    Program& p = program_;
    const int x = p.tensor(kHidden, RowKind::tokens), qkv = p.tensor((kHeads + 2) * kHeadDim, RowKind::tokens);
    const int q = p.tensor(kHeads * kHeadDim, RowKind::tokens), mixed = p.tensor(kHeads * kHeadDim, RowKind::tokens);
    const int ffn = p.tensor(kFfn, RowKind::tokens), a = p.operand(kHidden, format, 1, RowKind::tokens);
    const int mixed_a = p.operand(kHeads * kHeadDim, format, 1, RowKind::tokens);
    const int ffn_a = p.operand(kFfn, format, 1, RowKind::tokens);
    const int last = p.tensor(kHidden, RowKind::logits), last_a = p.operand(kHidden, format, 1, RowKind::logits);
    logits_ = p.tensor(kVocabulary, RowKind::logits);
    p.embed(x, embedding_.weight);
    p.rms_norm(a, x, gain_.data(), kHidden, 1e-5f);
    p.linear(qkv, a, qkv_.weight, bias_.data(), (kHeads + 2) * kHeadDim, false);
    const RopeTables rope{cos_.data(), sin_.data(), 256, kRotary, 0.15f};
    p.rope_and_store(q, qkv, rope, 0, head_gain_.data(), head_gain_.data(), 1e-6f, false);
    p.attention(mixed, q, 0, {.causal = true, .windowed = false});
    p.encode(mixed_a, mixed);
    p.linear(x, mixed_a, o_.weight, nullptr, 0, true);
    p.rms_norm(a, x, gain_.data(), kHidden, 1e-5f);
    p.linear_swiglu(ffn, a, gate_up_.weight, nullptr, 0);
    p.encode(ffn_a, ffn);
    p.linear(x, ffn_a, down_.weight, nullptr, 0, true);
    p.gather(last, x);
    p.rms_norm(last_a, last, gain_.data(), kHidden, 1e-5f);
    p.linear(logits_, last_a, embedding_.weight, nullptr, 0, false);
    p.sample(logits_);
  }

  std::vector<float> logits(size_t rows) const {
    const TensorBuffer& buffer = program_.buffer(logits_);
    std::vector<float> values;
    for (size_t r = 0; r < rows; ++r) {
      const float* row = buffer.data() + static_cast<int64_t>(r) * buffer.stride;
      values.insert(values.end(), row, row + buffer.cols);
    }
    return values;
  }

  Matrix embedding_, qkv_, o_, gate_up_, down_;
  std::vector<float> cos_, sin_, gain_, bias_, head_gain_;
  std::vector<float> features_ = random_values(kFeatures * kHidden, 11, 1.0f);
  Program program_;
  int logits_ = 0;
  bool sampled_even_ = true;
};

// One layer of a picture's encoder with odd sizes: 3 heads of 32, patches of 75 values, joined in fours.
class ToyEncoder {
 public:
  static constexpr int64_t kPixels = 75, kHidden = 48, kHeads = 3, kHeadDim = 32, kFfn = 100, kJoined = 4, kOut = 33;

  ToyEncoder(WeightFormat format, KvFormat kv_format, const KernelTable& table, std::shared_ptr<ThreadPool> threads)
      : patch_(matrix(kHidden, kPixels, format, 1)),
        qkv_(matrix(3 * kHeads * kHeadDim, kHidden, format, 2)),
        o_(matrix(kHidden, kHeads * kHeadDim, format, 3)),
        up_(matrix(kFfn, kHidden, format, 4)),
        down_(matrix(kHidden, kFfn, format, 5)),
        last_(matrix(kOut, kJoined * kHidden, format, 6)),
        gain_(random_values(kHidden, 7, 1.0f)),
        bias_(random_values(kFfn, 8, 0.1f)),
        program_(kMaxRows, kMaxRows, std::make_shared<PageMemory>(1, kPages, kHeads, kHeadDim, kv_format),
                 std::move(threads), table) {
    record(format);
  }

  // What comes out for pictures of so many patches each, whose patches are the rows of `features` from `first` on.
  std::vector<float> run(const std::vector<int32_t>& lengths, const std::vector<float>& features, size_t first) {
    std::vector<int32_t> tokens, positions, row_start = {0}, pages, index, turns;
    for (const int32_t length : lengths) {
      for (int32_t r = 0; r < length; ++r) {
        if (r % kJoined == 0) index.push_back(row_start.back() + r);
        positions.push_back(r);
        tokens.push_back(r % kPositions);
        turns.insert(turns.end(), {r / 9, r % 9});
      }
      for (int32_t page = 0; page < kPages / 2; ++page) pages.push_back(static_cast<int32_t>(pages.size()));
      row_start.push_back(row_start.back() + length);
    }
    const auto rows = static_cast<int64_t>(tokens.size()), out_rows = static_cast<int64_t>(index.size());
    // As windows the rows are the same sequences, under another name.
    Step step{rows, static_cast<int64_t>(lengths.size()), out_rows, tokens.data(), positions.data(), row_start.data(),
              pages.data(), kPages / 2, index.data(), nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
              nullptr, features.data() + first * kPixels, rows, kPixels, turns.data(), 2};
    const Step windows = step;
    step.windows = &windows;
    program_.run(step);
    const TensorBuffer& buffer = program_.buffer(out_);
    std::vector<float> values;
    for (int64_t r = 0; r < out_rows; ++r) {
      values.insert(values.end(), buffer.data() + r * buffer.stride, buffer.data() + r * buffer.stride + buffer.cols);
    }
    return values;
  }

 private:
  static constexpr int64_t kMaxRows = 140, kPages = 14, kPairs = 12;
  static constexpr int32_t kPositions = 20;

  static Matrix matrix(int64_t rows, int64_t cols, WeightFormat format, unsigned seed) {
    const float scale = 1.0f / std::sqrt(static_cast<float>(cols));
    return pack(random_values(static_cast<size_t>(rows * cols), seed, scale), rows, cols, format);
  }

  void record(WeightFormat format) {
    Program& p = program_;
    const int pixels = p.tensor(kPixels, RowKind::tokens), x = p.tensor(kHidden, RowKind::tokens);
    const int qkv = p.tensor(3 * kHeads * kHeadDim, RowKind::tokens), q = p.tensor(kHeads * kHeadDim, RowKind::tokens);
    const int mixed = p.tensor(kHeads * kHeadDim, RowKind::tokens), inner = p.tensor(kFfn, RowKind::tokens);
    const int pixels_a = p.operand(kPixels, format, 1, RowKind::tokens);
    const int a = p.operand(kHidden, format, 1, RowKind::tokens);
    const int mixed_a = p.operand(kHeads * kHeadDim, format, 1, RowKind::tokens);
    const int inner_a = p.operand(kFfn, format, 1, RowKind::tokens);
    const int joined = p.tensor(kJoined * kHidden, RowKind::logits);
    const int joined_a = p.operand(kJoined * kHidden, format, 1, RowKind::logits);
    out_ = p.tensor(kOut, RowKind::logits);
    p.features(pixels);
    p.embed(x, positions_.weight);
    p.encode(pixels_a, pixels);
    p.linear(x, pixels_a, patch_.weight, bias_.data(), kHidden, true);
    p.layer_norm(a, x, gain_.data(), kHidden, gain_.data(), 1e-6f);
    p.linear(qkv, a, qkv_.weight, nullptr, 0, false);
    const RopeTables rope{cos_.data(), sin_.data(), kMaxRows, 2 * kPairs, 0.18f, {5, 7}};
    p.rope_and_store(q, qkv, rope, 0, nullptr, nullptr, 0.0f, true);
    p.attention(mixed, q, 0, {.causal = false, .windowed = true});
    p.encode(mixed_a, mixed);
    p.linear(x, mixed_a, o_.weight, bias_.data(), kHidden, true);
    p.layer_norm(a, x, gain_.data(), kHidden, gain_.data(), 1e-6f);
    p.linear_gelu(inner, a, up_.weight, bias_.data(), kFfn);
    p.encode(inner_a, inner);
    p.linear(x, inner_a, down_.weight, bias_.data(), kHidden, true);
    p.gather(joined, x);
    p.layer_norm(joined_a, joined, gain_.data(), kHidden, gain_.data(), 1e-6f);
    p.linear(out_, joined_a, last_.weight, nullptr, 0, false);
  }

  Matrix patch_, qkv_, o_, up_, down_, last_;
  Matrix positions_ = matrix(kPositions, kHidden, WeightFormat::bf16, 9);
  std::vector<float> gain_, bias_;
  std::vector<float> cos_ = random_values(kMaxRows * kPairs, 13, 0.7f), sin_ = random_values(kMaxRows * kPairs, 14, 0.7f);
  Program program_;
  int out_ = 0;
};

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void check_format(WeightFormat format, KvFormat kv_format, const char* name, const std::shared_ptr<ThreadPool>& threads) {
  constexpr int32_t tokens = 83;
  std::vector<float> reference;
  for (const KernelTable* table : available_tables()) {
    const std::string what = std::string(name) + " on " + table->name + ": ";
    Toy whole(format, kv_format, *table, threads), pieces(format, kv_format, *table, threads);
    const std::vector<float> logits = whole.run(0, tokens, 0.8f);
    std::vector<float> joined;
    for (int32_t begin = 0, size = 1; begin < tokens; begin += size, size = size % 20 + 7) {
      const std::vector<float> part = pieces.run(begin, std::min(begin + size, tokens), 0.0f);
      joined.insert(joined.end(), part.begin(), part.end());
    }
    bool finite = true;
    for (float logit : logits) finite = finite && std::isfinite(logit);
    check(finite, what + "logits are finite");
    check(same_bits(joined, logits), what + "chunks give the bits of the whole");
    check(whole.sampled_even() && pieces.sampled_even(), what + "only allowed tokens are drawn");
    if (reference.empty()) reference = logits;
    if (format != WeightFormat::bf16) check(same_bits(reference, logits), what + "the bits of the first path");
  }
}

void check_encoder(WeightFormat format, KvFormat kv_format, const char* name,
                   const std::shared_ptr<ThreadPool>& threads) {
  const std::vector<float> features = random_values(120 * ToyEncoder::kPixels, 12, 1.0f);
  std::vector<float> reference;
  for (const KernelTable* table : available_tables()) {
    const std::string what = std::string(name) + " encoder on " + table->name + ": ";
    ToyEncoder encoder(format, kv_format, *table, threads);
    const std::vector<float> together = encoder.run({84, 36}, features, 0);
    std::vector<float> apart = encoder.run({84}, features, 0);
    const std::vector<float> second = encoder.run({36}, features, 84);
    apart.insert(apart.end(), second.begin(), second.end());
    check(std::all_of(apart.begin(), apart.end(), [](float x) { return std::isfinite(x); }), what + "rows are finite");
    check(same_bits(apart, together), what + "two pictures in one step give the bits of either");
    if (reference.empty()) reference = apart;
    if (format != WeightFormat::bf16) check(same_bits(reference, apart), what + "the bits of the first path");
  }
}

// Every part of every stage once, and none before the stage before it is done.
class CountJob final : public Job {
 public:
  CountJob(int num_threads, size_t num_stages) : counts_(num_stages), stages_(num_stages, num_threads) {}
  void work(int worker) noexcept override {
    for (size_t stage = 0; stage < counts_.size(); ++stage) {
      stages_.walk(stage, worker, [&](int) {
        if (stage > 0 && counts_[stage - 1] != stages_.num_parts()) early_ = true;
        ++counts_[stage];
      });
    }
  }
  bool is_right() const {
    const auto is_whole = [this](const std::atomic<int>& count) { return count == stages_.num_parts(); };
    return !early_ && std::all_of(counts_.begin(), counts_.end(), is_whole);
  }

 private:
  std::vector<std::atomic<int>> counts_;
  std::atomic<bool> early_{false};
  Stages stages_;
};

void check_threads() {
  for (int num_threads : {1, 2, 3, 7}) {
    ThreadPool pool(num_threads);
    bool is_right = true;
    for (int round = 0; round < 200; ++round) {
      CountJob job(num_threads, 20);
      pool.run(job);
      is_right = is_right && job.is_right();
    }
    check(is_right, std::to_string(num_threads) + " threads walk together");
  }
  check(default_threads().num_threads >= 1, default_threads().reason);
}

void check_pages() {
  for (const KvFormat format : {KvFormat::int8, KvFormat::bf16}) {
    PageMemory pool(2, 5, 3, 32, format);
    const auto page_bytes = static_cast<size_t>(pool.page_bytes());
    std::vector<uint8_t> data(2 * page_bytes), found(2 * page_bytes), others(3 * page_bytes, 1);
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<uint8_t>(i * 31 + i / 251 + 1);
    const int32_t ids[] = {4, 0}, other_ids[] = {1, 2, 3};
    pool.write(ids, 2, data.data());
    pool.read(ids, 2, found.data());
    pool.read(other_ids, 3, others.data());
    check(found == data && others == std::vector<uint8_t>(3 * page_bytes), "pages come back as they were written");
  }
}

void check_refusals() {
  const auto refuses = [](const char* what, const std::function<void()>& attempt) {
    bool refused = false;
    try {
      attempt();
    } catch (const std::invalid_argument& error) {
      refused = true;
    }
    check(refused, std::string("refuses ") + what);
  };
  refuses("no threads", [] { ThreadPool pool(0); });
  refuses("a head size that is no multiple of 16", [] { PageMemory pool(1, 1, 1, 20, KvFormat::int8); });
  refuses("an unknown path", [] { choose_table("sse9"); });
  refuses("a page outside the pool", [] {
    PageMemory pool(1, 2, 1, 16, KvFormat::int8);
    const int32_t ids[] = {1, 2};
    const std::vector<uint8_t> data(2 * static_cast<size_t>(pool.page_bytes()));
    pool.write(ids, 2, data.data());
  });
}

}  // namespace

int main() {
  const Choice choice = choose_table("");
  std::printf("%s: %s\n", choice.table->name, choice.reason.c_str());
  check_threads();
  check_refusals();
  check_pages();
  const auto threads = std::make_shared<ThreadPool>(3);
  check_format(WeightFormat::int8, KvFormat::int8, "int8", threads);
  check_format(WeightFormat::int8, KvFormat::bf16, "int8 with bf16 keys and values", threads);
  check_format(WeightFormat::int4, KvFormat::int8, "int4", threads);
  check_format(WeightFormat::bf16, KvFormat::bf16, "bf16", threads);
  check_encoder(WeightFormat::int8, KvFormat::int8, "int8", threads);
  check_encoder(WeightFormat::bf16, KvFormat::bf16, "bf16", threads);
  const Peaks peaks = measure_peaks(*threads, *choice.table, 0.03);
  check(peaks.read_gb_per_s > 0 && peaks.int8_tops > 0 && peaks.fma_tflops > 0, "ceilings can be measured");
  std::printf("%d failed\n", failures);
  return failures;
}
