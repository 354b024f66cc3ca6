"""PyTorch's textbook training loop, ported: a linear model of 10 features, mean squared error, SGD.

Each comment is the torch line that the NumPy line below it replaces.
"""

# import torch
import lossrs
import numpy as np

# generator = torch.Generator().manual_seed(0)
# x = torch.randn(100, 10, generator=generator)
# y = x @ torch.randn(10, 1, generator=generator) + 0.1 * torch.randn(100, 1, generator=generator)
generator = np.random.default_rng(0)
x = generator.standard_normal((100, 10), dtype=np.float32)
y = x @ generator.standard_normal((10, 1), dtype=np.float32)
y += np.float32(0.1) * generator.standard_normal((100, 1), dtype=np.float32)

# model = torch.nn.Linear(10, 1)
weight = generator.uniform(-1, 1, (10, 1)).astype(np.float32) / np.sqrt(np.float32(10))
bias = np.zeros(1, np.float32)

# criterion = torch.nn.MSELoss()
criterion = lossrs.MSELoss()

# optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
learning_rate = 0.01

for epoch in range(100):
    # output = model(x)
    output = x @ weight + bias

    # loss = criterion(output, y)
    # optimizer.zero_grad()
    # loss.backward()
    loss, gradient = criterion.value_and_grad(output, y)

    # optimizer.step()
    weight -= learning_rate * (x.T @ gradient)
    bias -= learning_rate * gradient.sum(axis=0)

    # if (epoch + 1) % 10 == 0:
    #     print(f"Epoch [{epoch + 1}/100], Loss: {loss.item():.4f}")
    if (epoch + 1) % 10 == 0:
        print(f"Epoch [{epoch + 1}/100], Loss: {loss:.4f}")
