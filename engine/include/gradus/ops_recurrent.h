/* ops_recurrent.h - recurrent cells over a series.
 *
 * Letters: B series, T steps, H state size. What the inputs add to the gates at each step does not depend on the state,
 * so it is made for all steps by one grd_affine before: `gates` = x W_ih^T + b. All inputs are floats of one dtype.
 * Gates stand in PyTorch's order. Layers that own their weights: grd_lstm, grd_gru and grd_rnn in nn.h. */
#ifndef GRADUS_OPS_RECURRENT_H
#define GRADUS_OPS_RECURRENT_H

#include <gradus/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Long short-term memory: with i, f, g, o = gates_t + h_{t-1} W^T, c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g) and
 * h_t = sigmoid(o) tanh(c_t). gates [B,T,4H], w [4H,H], h and c (the state before the first step) [B,H] -> all h_t
 * [B,T,H]; *cells, if not NULL, gets all c_t. Hochreiter, Schmidhuber, "Long short-term memory", 1997, with forget
 * gates (Gers et al., 2000); as torch.nn.LSTM. */
GRD_API grd_tensor grd_lstm_cells(grd_tensor gates, grd_tensor w, grd_tensor h, grd_tensor c, grd_tensor *cells);

/* Gated recurrent unit: with r, z = sigmoid(gates_t + h_{t-1} W^T + bias), n = tanh(gates_t + r (h_{t-1} W^T + bias)),
 * h_t = (1 - z) n + z h_{t-1}. gates [B,T,3H], w [3H,H], bias [3H], h [B,H] -> all h_t [B,T,H]. Cho et al., 2014; as
 * torch.nn.GRU, with the reset gate behind the product. */
GRD_API grd_tensor grd_gru_cells(grd_tensor gates, grd_tensor w, grd_tensor bias, grd_tensor h);

/* h_t = tanh(gates_t + h_{t-1} W^T), or max(.., 0) with `relu`. gates [B,T,H], w [H,H], h [B,H] -> all h_t [B,T,H]. As
 * torch.nn.RNN. */
GRD_API grd_tensor grd_rnn_cells(grd_tensor gates, grd_tensor w, grd_tensor h, bool relu);

#ifdef __cplusplus
}
#endif
#endif
