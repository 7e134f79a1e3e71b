"""Where the gradient goes: each step's Jacobian, every path of the gradient, what bounds them.

Loss ``L`` is on the state after the last step t. Its gradient reaches state k along paths through
this graph; ``diag(v) W'`` is written ``v W'``:

    c_k -> c_{k+1}            f_{k+1}                  the cell path
    c_k -> h_k                dh/dc = o * psi'(c_k)    the way out
    h_k -> z_{k+1} -> c_{k+1} dc/dz W' for i, f, g     a crossing
    h_k -> z_{k+1} -> h_{k+1} dh/dz_o W_o'             a crossing

``dL/dc_k`` and ``dL/dh_k`` are sums over all paths from the loss to that node, so ``dL/dc_k`` holds
what comes by ``h_k`` too, as dL_t/ds_k of document 003 does. The state before the first step is
given, not made: there is no way from ``c_0`` to ``h_0``.

A **crossing** is one use of the recurrent kernel: an edge from ``h_s`` into the pre-activation of
one gate at s + 1. Nothing else counts: the cell path multiplies by f, and the factor o * psi'(c)
stands where the path, followed back, enters the cell state: once for each time that it does.

From one step to the next, rows by the output, columns by the input:

    dc_t/dh_{t-1} = dc/dz_i W_i' + dc/dz_f W_f' + dc/dz_g W_g'              [G1]
    dc_t/dc_{t-1} = f                                                       [G2]
    dh_t/dh_{t-1} = dh/dz_o W_o' + dh/dc dc_t/dh_{t-1}                      [G3]
    dh_t/dc_{t-1} = dh/dc f                                                 [G4]

Back from the loss, [B1] to [B4] of ``cell_derivatives`` and ``sequence``, step by step:

    dL/dc_k = d_c_k + dL/dh_k * dh/dc                                       [G5]

The same, split by paths. Write each use of the kernel with a formal x: then the gradient is a
polynomial in x whose coefficient of x^r is the sum over all paths with r crossings. One step back
maps each coefficient as it maps a gradient, but a use of the kernel also turns the coefficient of
x^r into one of x^{r+1}. The first crossing that a path makes on its way back from the loss has a
gate q:

    d_c^0_{k-1}      = dL/dc_k^0 * f                     no crossing yet    [G6]
    d_h^{q,1}_{k-1}  = d_z_q^0 W_q'                      the first          [G7]
    d_h^{q,r+1}_{k-1} = d_z^{q,r} W'                     every other        [G8]
    d_c^{q,r}_{k-1}  = dL/dc_k^{q,r} * f                                    [G9]

In a stack of layers the layer above reads every ``h_k``; what it sends back joins dL/dh_k there,
and dL/dh_k^0 among the parts, so that a path's crossings are counted within its layer. A layer
sends d_z_k U' down [B8].

The documents' own two paths, and their bounds with the first factor |L'| = |dL/dh_t|:

    t_0 = L' * o psi'(c_t) * f_t * ... * f_{k+1}         all of r = 0       [G10]
    t_1 = L' (dh/dz_o W_o')_t ... (dh/dz_o W_o')_{k+1}                      [G11]
    |t_1| <= |L'| (n/2 |W_o|_F)^{t-k}                    000 (33)           [G12]
    |t_1| <= |L'| (max_j |K_j| |W_o|)^{t-k}              003                [G13]
    |t_1| <= |L'| prod_j |K_j| |W_o|                                        [G14]
    |t_1| <= |L'| |prod_j K_j W_o'|                      attained           [G15]

with K_j = diag(dh/dz_o)_j and the spectral norm where no other is named. Document 003, which counts
to ``h_{k-1}`` and so to the power t - k + 1, leaves its K undefined. The diagonal of any one step
will not do: it must be the largest over the steps of the path, |K| = max_j |K_j|, which is at most
1/4 for a bounded psi, since o (1 - o) <= 1/4 and |psi| <= 1.

How the product of all steps' Jacobians stretches space, at any length, by QR:

    J_t Q_{t-1} = Q_t R_t                                                   [G16]
    growth_t    = growth_{t-1} + log |diag R_t|                             [G17]
    J_t ... J_1 Q_0 = Q_t diag(exp(growth_t)) V_t                           [G18]
"""

from jaxlstm.gradient_flow.bounds import (
    OutputGatePath,
    PathBounds,
    output_gate_path,
    path_bounds,
    spectral_bound,
)
from jaxlstm.gradient_flow.by_distance import Curves, curves
from jaxlstm.gradient_flow.contrast import RNNFlow, rnn_flow
from jaxlstm.gradient_flow.jacobians import (
    StepJacobians,
    jacobian_product,
    matrices,
    step_jacobians,
)
from jaxlstm.gradient_flow.paths import (
    PathNorms,
    PathParts,
    cancellation,
    path_norms,
    path_parts,
    shares,
)
from jaxlstm.gradient_flow.remedies import Advice, LayerAdvice, advice
from jaxlstm.gradient_flow.report import (
    PARTS,
    GradientFlowReport,
    LayerFlow,
    gradient_flow_report,
)
from jaxlstm.gradient_flow.reverse import StateGradients, state_gradients
from jaxlstm.gradient_flow.spectra import Spectrum, lstm_spectrum, rnn_spectrum
from jaxlstm.gradient_flow.steps import LSTMSteps, Step, linearize

__all__ = [
    "PARTS",
    "Advice",
    "Curves",
    "GradientFlowReport",
    "LSTMSteps",
    "LayerAdvice",
    "LayerFlow",
    "OutputGatePath",
    "PathBounds",
    "PathNorms",
    "PathParts",
    "RNNFlow",
    "Spectrum",
    "StateGradients",
    "Step",
    "StepJacobians",
    "advice",
    "cancellation",
    "curves",
    "gradient_flow_report",
    "jacobian_product",
    "linearize",
    "lstm_spectrum",
    "matrices",
    "output_gate_path",
    "path_bounds",
    "path_norms",
    "path_parts",
    "rnn_flow",
    "rnn_spectrum",
    "shares",
    "spectral_bound",
    "state_gradients",
    "step_jacobians",
]
