"""What a model is: packages as their owners ship them, read, described, encrypted, exported.

Enters: a folder or an ONNX file, and what the job says of it. Leaves: `ModelPackage`, frozen; `package` has
all such values, the names of engines and precisions too. Networks are read here, not run: `export_paddleseg`
runs PaddleSeg in another interpreter.
"""
