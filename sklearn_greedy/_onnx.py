"""The way to ONNX, for those who have skl2onnx."""


def register_onnx_converters() -> None:
    """Tell skl2onnx how to convert the estimators of this package.

    After one call, ``skl2onnx.to_onnx`` converts them alone and as steps of a
    `~sklearn.pipeline.Pipeline`. A transformer becomes its ``transform``, a classifier
    its ``predict`` and ``predict_proba`` (with skl2onnx's options "zipmap", "nocl" and
    "output_class_labels"), a regressor its ``predict`` with one column per target. The
    graph computes in float64 where its input is float64, else in float32.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.

    Notes
    -----
    The graphs need opset 13 or later. ZipMap, which "zipmap" adds unless it is off,
    takes float32 only. What goes down a stack or measures a density
    (``inverse_transform``, ``sample``, ``score_samples``) is not converted.

    Examples
    --------
    >>> import numpy as np
    >>> from onnxruntime import InferenceSession
    >>> from skl2onnx import to_onnx
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_greedy import StackedRBMTransformer, register_onnx_converters
    >>> register_onnx_converters()
    >>> X = load_iris().data.astype(np.float32)
    >>> stack = StackedRBMTransformer((4,), random_state=0).fit(X)
    >>> model = to_onnx(stack, X[:1]).SerializeToString()
    >>> session = InferenceSession(model, providers=["CPUExecutionProvider"])
    >>> (H,) = session.run(None, {"X": X})
    >>> bool(np.abs(H - stack.transform(X)).max() < 1e-5)
    True
    """
    try:
        import skl2onnx  # noqa: F401
    except ImportError as exc:
        raise ImportError(
            "Converting to ONNX needs skl2onnx. Install it with: pip install skl2onnx"
        ) from exc
    from sklearn_greedy._onnx_converters import register

    register()
