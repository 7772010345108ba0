// An empty CUDA device for a CPU build of PyTorch: enough for autograd, generators and fake tensors on cuda:0, without kernels.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace {

const c10::Device kDevice(c10::DeviceType::CUDA, 0);

// Streams and events that are always finished.
struct EmptyGuard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kDevice.type(); }
  c10::Device exchangeDevice(c10::Device) const override { return kDevice; }
  c10::Device getDevice() const override { return kDevice; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return c10::Stream(c10::Stream::DEFAULT, kDevice); }
  c10::Stream getDefaultStream(c10::Device device) const override { return getStream(device); }
  c10::Stream getNewStream(c10::Device device, int = 0) const override { return getStream(device); }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeEvent(void*) const override {}
  void recordDataPtrOnStream(const c10::DataPtr&, const c10::Stream&) const override {}
};

c10::impl::DeviceGuardImplRegistrar registered(kDevice.type(), new EmptyGuard());

}  // namespace

namespace at {

// Generators of the device are the CPU's, under the device's name.
struct Generator0 final : CPUGeneratorImpl {
  Generator0() { device_ = kDevice; key_set_ = c10::DispatchKeySet(c10::DispatchKey::CUDA); }
};

struct EmptyHooks final : CUDAHooksInterface {
  explicit EmptyHooks(CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return false; }
  DeviceIndex current_device() const override { return 0; }
  DeviceIndex deviceCount() const override { return 1; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  Generator getNewGenerator(DeviceIndex) const override { return make_generator<Generator0>(); }
};

C10_REGISTER_CLASS(CUDAHooksRegistry, CUDAHooks, EmptyHooks)

}  // namespace at

// A CPU build knows no accelerator; autograd asks for one before it uses streams.
namespace at::accelerator {
std::optional<c10::DeviceType> getAccelerator(bool) { return kDevice.type(); }
bool isAccelerator(c10::DeviceType type) { return type == kDevice.type(); }
}  // namespace at::accelerator
