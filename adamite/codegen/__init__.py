"""What kernels of every target share: LLVM's text, their frame, the job that they work on, the compiler."""
