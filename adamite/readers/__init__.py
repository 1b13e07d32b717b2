"""What a graph becomes: array arithmetic (numpy), machine code (llvm), print (text)."""
